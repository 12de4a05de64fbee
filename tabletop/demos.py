"""Demonstrations: what the camera saw, the robot's state, and what the expert would do from there, in noisy episodes.

The arm is pushed off course on purpose (noise, jolts, fingers that close too early), because a policy that has only seen perfect
runs cannot recover from its own mistakes. Labels are always the expert's clean ones. It knows no network.
"""

import io
import multiprocessing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.preprocess import resize
from tabletop.appearance import Appearance
from tabletop.contract import CAMERA, HORIZON
from tabletop.expert import expert_action, yaw_to_grasp
from tabletop.instructions import COLOURS
from tabletop.render import Camera
from tabletop.scene import Tabletop, View

LOG_FILE = "demos.json"
RENDER_PX = 224
MAX_STEPS, HOLD_STEPS = 70, 6
_NOISE_M = (0.0, 0.003, 0.008)
_JOLT_CHANCE, _JOLT_M, _SLIP_CHANCE = 0.03, 0.02, 0.008


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations:
    """N frames. `truth` is (N, 8): tool position, finger width, gap to the named cube, yaw to grasp; for training only."""

    images: NDArray[np.uint8]  # (N, 128, 128, 3)
    states: NDArray[np.float32]  # (N, 8)
    colours: NDArray[np.int64]  # (N,) index into COLOURS
    chunks: NDArray[np.float32]  # (N, 8, 7)
    truth: NDArray[np.float32]  # (N, 8)

    def save(self, folder: Path, name: str) -> None:
        """Writes `folder/name.images.npy` and `folder/name.npz`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.images.npy", self.images)
        np.savez(folder / f"{name}.npz", states=self.states, colours=self.colours, chunks=self.chunks, truth=self.truth)


def load(folder: Path) -> list[Demonstrations]:
    """Every shard in `folder`, images mapped from disk."""
    found = []
    for table in sorted(folder.glob("*.npz")):
        arrays = np.load(table)
        images = np.load(table.with_name(f"{table.stem}.images.npy"), mmap_mode="r")
        found.append(Demonstrations(images=images, **{name: arrays[name] for name in ("states", "colours", "chunks", "truth")}))
    return found


def collect(seeds: Iterable[int]) -> tuple[Demonstrations, int]:
    """One episode per seed. Returns the frames and how many episodes ended with the named cube in the air."""
    table = Tabletop()
    appearance = Appearance(table)
    frames: list[tuple[NDArray[np.uint8], NDArray[np.float32], int, NDArray[np.float32], NDArray[np.float32]]] = []
    lifted = 0
    with Camera(table, size_px=RENDER_PX) as camera:
        for seed in seeds:
            table.reset(seed)
            appearance.vary(seed)
            episode = _Episode(table=table, camera=camera, seed=seed)
            lifted += episode.run()
            frames.extend(episode.frames())
    images, states, colours, chunks, truth = zip(*frames, strict=True)
    return (
        Demonstrations(
            images=np.stack(images),
            states=np.stack(states),
            colours=np.array(colours, dtype=np.int64),
            chunks=np.stack(chunks),
            truth=np.stack(truth),
        ),
        lifted,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one process makes."""

    folder: Path
    name: str
    seeds: range

    def run(self) -> tuple[int, int]:
        """Makes and saves the shard. Returns (frames, episodes that succeeded)."""
        demonstrations, lifted = collect(self.seeds)
        demonstrations.save(self.folder, self.name)
        return len(demonstrations.colours), lifted


def run_all(jobs: list[Job]) -> list[tuple[int, int]]:
    """Runs every job in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
        return pool.map(Job.run, jobs)


def as_seen(picture: NDArray[np.uint8], *, jpeg_quality: int | None) -> NDArray[np.uint8]:
    """What the policy gets of a rendered picture: perhaps through JPEG, then the resize that the API uses."""
    image = Image.fromarray(picture)
    if jpeg_quality is not None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=jpeg_quality)
        image = Image.open(buffer).convert("RGB")
    return resize(image, CAMERA)


class _Episode:
    """One run from a reset table; keeps every frame with its label."""

    def __init__(self, *, table: Tabletop, camera: Camera, seed: int) -> None:
        self._table, self._camera = table, camera
        self._random = np.random.default_rng((seed, 11))
        self._colour = COLOURS[int(self._random.integers(len(COLOURS)))]
        self._noise_m = float(self._random.choice(_NOISE_M))
        self._jolt, self._jolt_left = np.zeros(3), 0
        self._rows: list[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]] = []
        self._labels: list[NDArray[np.float32]] = []

    def run(self) -> bool:
        held = 0
        for _ in range(MAX_STEPS):
            view, state, picture = self._table.view, self._table.state, self._picture()
            label = expert_action(view, self._colour)
            self._rows.append((picture, state, _truth(view, self._colour)))
            self._labels.append(label)
            self._table.apply(self._disturbed(label))
            held += view.is_lifted(self._colour)
            if held >= HOLD_STEPS:
                return True
        return False

    def frames(self) -> Iterable[tuple[NDArray[np.uint8], NDArray[np.float32], int, NDArray[np.float32], NDArray[np.float32]]]:
        """(picture, state, colour, chunk, truth) per step; the last label is repeated past the end."""
        labels = np.stack(self._labels + [self._labels[-1]] * HORIZON)
        for step, (picture, state, truth) in enumerate(self._rows):
            yield picture, state, COLOURS.index(self._colour), labels[step : step + HORIZON], truth

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


def _truth(view: View, colour: str) -> NDArray[np.float32]:
    gap = view.cube_positions[colour] - view.tool.position
    return np.array([*view.tool.position, view.finger_width_m, *gap, yaw_to_grasp(view, colour)], dtype=np.float32)
