"""Demonstrations: what the camera saw, the robot's state, and what the expert would do from there, in noisy episodes.

The arm is pushed off course on purpose (noise, jolts, fingers that close too early), because a policy that has only seen perfect
runs cannot recover from its own mistakes. Labels are always the expert's clean ones. It knows no network and no file: `dataset`
keeps what is recorded.
"""

import functools
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.preprocess import resize
from tabletop.appearance import Appearance
from tabletop.contract import CAMERA, HORIZON
from tabletop.expert import expert_action, goal_of
from tabletop.instructions import training_instruction
from tabletop.parallel import in_order
from tabletop.render import Camera
from tabletop.scene import Tabletop, View
from tabletop.tasks import Judge, draw_task, verbs_of
from tabletop.things import Layout
from tabletop.verbs import Task, Verb
from tabletop.world import WRIST

RENDER_PX = 224
MAX_STEPS, AFTER_STEPS = 100, 5  # the robot goes on holding, staying or retreating for a while
CUBES_SHARE = 0.2  # of the episodes are in scenes of the first policy
VERB_SHARES = (Verb.PICK_UP,) * 9 + (Verb.MOVE_TO,) * 4 + (Verb.PUT_IN_BOWL,) * 7
_NOISE_M = (0.0, 0.003, 0.008)
_LEAD_STEPS, _LEAD_EXECUTES = (2, 40), 4
_JOLT_CHANCE, _JOLT_M, _SLIP_CHANCE = 0.03, 0.02, 0.008


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One moment of an episode."""

    front: NDArray[np.uint8]  # (224, 224, 3)
    wrist: NDArray[np.uint8] | None
    state: NDArray[np.float32]  # (8,)
    label: NDArray[np.float32]  # (7,) what the expert would do
    truth: NDArray[np.float32]  # (8,) see `Demonstrations`


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One episode, whole."""

    task: Task
    frames: list[Frame]
    is_done: bool


Lead = Callable[[NDArray[np.uint8], str, NDArray[np.float32] | None], NDArray[np.float32]]  # see `drive.Policy.ask`


class Recorder:
    """The table with the expert at it. Use as a context manager: it owns the cameras. Raises RenderUnavailable."""

    def __init__(self, *, has_wrist: bool = True) -> None:
        self._table = Tabletop()
        self._appearance = Appearance(self._table)
        self._front = Camera(self._table, size_px=RENDER_PX)
        self._wrist = Camera(self._table, size_px=RENDER_PX, name=WRIST) if has_wrist else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        for camera in (self._front, self._wrist):
            if camera is not None:
                camera.close()

    def record(self, seed: int, lead: Lead | None = None) -> Recorded:
        """The episode of that seed; it decides scene, look, task and noise. A `lead` drives for a while before it begins."""
        random = np.random.default_rng((seed, 11))
        layout = Layout.CUBES if random.random() < CUBES_SHARE else Layout.VARIED
        self._table.reset(seed, layout)
        self._appearance.vary(seed)
        verbs = verbs_of(layout)
        task = draw_task(self._table.view, random, VERB_SHARES if len(verbs) > 1 else verbs)
        disturbance = _Disturbance(random)
        if lead is not None:
            self._follow(lead, task, random)
        judge, after, frames = Judge(task), 0, list[Frame]()
        for _ in range(MAX_STEPS):
            frames.append(self._frame(task))
            self._table.apply(disturbance.disturbed(frames[-1].label))
            judge.watch(self._table.view)
            after += judge.is_done
            if after > AFTER_STEPS:
                break
        return Recorded(task=task, frames=frames, is_done=judge.is_done)

    def _follow(self, lead: Lead, task: Task, random: np.random.Generator) -> None:
        """Where its own mistakes take the policy, half of the time without the robot's state: the expert begins there."""
        instruction, has_state = training_instruction(task, random), random.random() < 0.5
        judge, planned = Judge(task), list[NDArray[np.float32]]()
        for _ in range(int(random.integers(*_LEAD_STEPS))):
            if not planned:
                seen = as_seen(self._front.picture(), jpeg_quality=None)
                planned = list(lead(seen, instruction, self._table.state if has_state else None)[:_LEAD_EXECUTES])
            self._table.apply(planned.pop(0))
            judge.watch(self._table.view)
            if judge.is_done:
                return

    def _frame(self, task: Task) -> Frame:
        view = self._table.view
        return Frame(
            front=self._front.picture(),
            wrist=None if self._wrist is None else self._wrist.picture(),
            state=self._table.state,
            label=expert_action(view, task),
            truth=_truth(view, task),
        )


def record_each(
    seeds: Iterable[int], *, processes: int, has_wrist: bool, open_lead: Callable[[], Lead] | None = None
) -> Iterator[Recorded]:
    """The episodes of those seeds, in order, recorded in so many processes. Raises RenderUnavailable."""
    opens = functools.partial(_recording, open_lead, has_wrist=has_wrist)
    return in_order(opens, ((seed,) for seed in seeds), processes=processes)


@contextmanager
def _recording(open_lead: Callable[[], Lead] | None, *, has_wrist: bool) -> Iterator[Callable[[int], Recorded]]:
    lead = None if open_lead is None else open_lead()
    with Recorder(has_wrist=has_wrist) as recorder:
        yield lambda seed: recorder.record(seed, lead)


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


class _Disturbance:
    """What one episode does to the expert's actions."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._noise_m = float(random.choice(_NOISE_M))
        self._jolt, self._jolt_left = np.zeros(3), 0

    def disturbed(self, label: NDArray[np.float32]) -> NDArray[np.float32]:
        """That action, with noise, jolts and slips."""
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
