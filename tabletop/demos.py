"""Demonstrations: what the camera saw, the robot's state, and what the expert would do from there, in noisy episodes.

The arm is pushed off course on purpose (noise, jolts, fingers that close too early), because a policy that has only seen perfect
runs cannot recover from its own mistakes. Labels are always the expert's clean ones. It knows no network; `shards` keeps frames.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.preprocess import resize
from tabletop.appearance import Appearance
from tabletop.contract import CAMERA, HORIZON
from tabletop.expert import expert_action, goal_of
from tabletop.render import Camera
from tabletop.scene import Tabletop, View
from tabletop.shards import Demonstrations
from tabletop.tasks import Judge, draw_task, verbs_of
from tabletop.things import Layout
from tabletop.verbs import ALL_TASKS, Task, Verb

RENDER_PX = 224
MAX_STEPS, AFTER_STEPS = 100, 5  # the robot goes on holding, staying or retreating for a while
CUBES_SHARE = 0.2  # of the episodes are in scenes of the first policy
VERB_SHARES = (Verb.PICK_UP,) * 9 + (Verb.MOVE_TO,) * 4 + (Verb.PUT_IN_BOWL,) * 7
_NOISE_M = (0.0, 0.003, 0.008)
_JOLT_CHANCE, _JOLT_M, _SLIP_CHANCE = 0.03, 0.02, 0.008


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One moment of an episode."""

    picture: NDArray[np.uint8]  # (128, 128, 3), as the policy gets it
    state: NDArray[np.float32]  # (8,)
    label: NDArray[np.float32]  # (7,) what the expert would do
    truth: NDArray[np.float32]  # (8,) see `Demonstrations`


def collect(seeds: Iterable[int]) -> tuple[Demonstrations, int]:
    """One episode per seed. Returns the frames and how many episodes ended with their task done."""
    table = Tabletop()
    appearance = Appearance(table)
    episodes: list[tuple[Task, list[Frame]]] = []
    done = 0
    with Camera(table, size_px=RENDER_PX) as camera:
        for seed in seeds:
            random = np.random.default_rng((seed, 11))
            layout = Layout.CUBES if random.random() < CUBES_SHARE else Layout.VARIED
            table.reset(seed, layout)
            appearance.vary(seed)
            episode = _Episode(table=table, camera=camera, random=random, layout=layout)
            done += episode.run()
            episodes.append((episode.task, episode.frames))
    return _joined(episodes), done


def as_seen(picture: NDArray[np.uint8], *, jpeg_quality: int | None) -> NDArray[np.uint8]:
    """What the policy gets of a rendered picture: perhaps through JPEG, then the resize that the API uses."""
    image = Image.fromarray(picture)
    if jpeg_quality is not None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=jpeg_quality)
        image = Image.open(buffer).convert("RGB")
    return resize(image, CAMERA)


def chunks_of(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, 7) → (T, 8, 7): from each step on, what the expert says; the last label is repeated past the end."""
    whole = np.concatenate([labels, np.repeat(labels[-1:], HORIZON, axis=0)])
    return np.stack([whole[step : step + HORIZON] for step in range(len(labels))])


class _Episode:
    """One run from a reset table; keeps every frame with its label."""

    def __init__(self, *, table: Tabletop, camera: Camera, random: np.random.Generator, layout: Layout) -> None:
        self._table, self._camera, self._random = table, camera, random
        verbs = verbs_of(layout)
        self.task = draw_task(table.view, random, VERB_SHARES if len(verbs) > 1 else verbs)
        self._noise_m = float(random.choice(_NOISE_M))
        self._jolt, self._jolt_left = np.zeros(3), 0
        self.frames: list[Frame] = []

    def run(self) -> bool:
        judge, after = Judge(self.task), 0
        for _ in range(MAX_STEPS):
            view = self._table.view
            label = expert_action(view, self.task)
            truth = _truth(view, self.task)
            self.frames.append(Frame(picture=self._picture(), state=self._table.state, label=label, truth=truth))
            self._table.apply(self._disturbed(label))
            judge.watch(self._table.view)
            after += judge.is_done
            if after > AFTER_STEPS:
                break
        return judge.is_done

    def _picture(self) -> NDArray[np.uint8]:
        quality = int(self._random.integers(60, 96)) if self._random.random() < 0.5 else None
        return as_seen(self._camera.picture(), jpeg_quality=quality)

    def _disturbed(self, label: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._jolt_left == 0 and self._random.random() < _JOLT_CHANCE:
            direction = self._random.normal(size=3)
            self._jolt, self._jolt_left = direction / np.linalg.norm(direction) * _JOLT_M, 2
        action = label.copy()
        action[:3] += self._random.normal(size=3) * self._noise_m
        action[5] += self._random.normal() * self._noise_m * 4
        if self._jolt_left:
            action[:3] = self._jolt
            self._jolt_left -= 1
        if self._random.random() < _SLIP_CHANCE:
            action[6] = 1.0 - action[6]
        return action


def _truth(view: View, task: Task) -> NDArray[np.float32]:
    gap, yaw = goal_of(view, task)
    return np.array([*view.tool.position, view.finger_width_m, *gap, yaw], dtype=np.float32)


def _joined(episodes: list[tuple[Task, list[Frame]]]) -> Demonstrations:
    frames = [frame for _, several in episodes for frame in several]
    return Demonstrations(
        images=np.stack([frame.picture for frame in frames]),
        states=np.stack([frame.state for frame in frames]),
        tasks=np.array([ALL_TASKS.index(task) for task, several in episodes for _ in several], dtype=np.int64),
        chunks=np.concatenate([chunks_of(np.stack([frame.label for frame in several])) for _, several in episodes]),
        truth=np.stack([frame.truth for frame in frames]),
        episodes=np.array([len(several) for _, several in episodes], dtype=np.int64),
    )
