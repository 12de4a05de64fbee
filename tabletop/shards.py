"""Demonstrations on disk: numbered shards of frames, made one after another so that a run can be stopped and goes on.

Each shard is finished by renaming, so that what is there is whole. It knows no simulator and no network.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LOG_FILE = "demos.json"
_ARRAYS = ("states", "tasks", "chunks", "truth", "episodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations:
    """N frames of M episodes. `truth` is (N, 8): tool position, finger width, gap to what the hand is after, turn to grasp it."""

    images: NDArray[np.uint8]  # (N, 128, 128, 3)
    states: NDArray[np.float32]  # (N, 8)
    tasks: NDArray[np.int64]  # (N,) index into ALL_TASKS
    chunks: NDArray[np.float32]  # (N, 8, 7)
    truth: NDArray[np.float32]  # (N, 8), for training only
    episodes: NDArray[np.int64]  # (M,) frames in each, in order

    def save(self, folder: Path, name: str) -> None:
        """Writes `folder/name.images.npy` and, last, `folder/name.npz`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.images.npy", self.images)
        half = folder / f".{name}.half.npz"
        np.savez(half, **{array: getattr(self, array) for array in _ARRAYS})
        half.rename(folder / f"{name}.npz")


def load(folder: Path) -> list[Demonstrations]:
    """Every whole shard in `folder`, images mapped from disk."""
    found = []
    for table in sorted(folder.glob("[!.]*.npz")):
        arrays = np.load(table)
        images = np.load(table.with_name(f"{table.stem}.images.npy"), mmap_mode="r")
        found.append(Demonstrations(images=images, **{name: arrays[name] for name in _ARRAYS}))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How far a run is. `frames` and `done` count what this and earlier runs made."""

    episodes: int
    done: int
    frames: int
    episodes_per_minute: float


Collect = Callable[[range], tuple[Demonstrations, int]]


def make(folder: Path, seeds: range, size: int, collect: Collect, report: Callable[[Made], None]) -> Made:
    """Makes the shards of `size` seeds that are not there yet, and keeps the log beside them up to date."""
    log: dict[str, dict[str, float]] = _log(folder)
    began = time.monotonic()
    fresh = 0
    made = _made(log, 0.0)
    for start in range(seeds.start, seeds.stop, size):
        part = range(start, min(start + size, seeds.stop))
        name = f"seeds-{part.start}-{part.stop}"
        if name in log:
            continue
        found, done = collect(part)
        found.save(folder, name)
        fresh += len(part)
        minutes = (time.monotonic() - began) / 60
        log[name] = {"episodes": len(part), "done": done, "frames": len(found.tasks), "minutes": round(minutes, 3)}
        (folder / LOG_FILE).write_text(json.dumps(log, indent=1) + "\n")
        made = _made(log, fresh / minutes)
        report(made)
    return made


def summary(folder: Path) -> dict[str, int]:
    """What the log says in all: episodes, done, frames."""
    return _total(_log(folder))


def _made(log: dict[str, dict[str, float]], rate: float) -> Made:
    return Made(**_total(log), episodes_per_minute=round(rate, 1))


def _total(log: dict[str, dict[str, float]]) -> dict[str, int]:
    return {key: int(sum(one[key] for one in log.values())) for key in ("episodes", "done", "frames")}


def _log(folder: Path) -> dict[str, dict[str, float]]:
    path = folder / LOG_FILE
    found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    return {name: one for name, one in found.items() if (folder / f"{name}.npz").exists()}
