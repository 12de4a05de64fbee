"""Frames to train on: shards of arrays that training maps from disk, cut from a dataset by `dataset`.

Each shard is finished by renaming, so that what is there is whole. It knows no simulator and no network.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


def has(folder: Path, name: str) -> bool:
    """Whether that shard is whole."""
    return (folder / f"{name}.npz").exists()


def load(folder: Path, name: str) -> Demonstrations:
    """That shard, images mapped from disk."""
    arrays = np.load(folder / f"{name}.npz")
    images = np.load(folder / f"{name}.images.npy", mmap_mode="r")
    return Demonstrations(images=images, **{array: arrays[array] for array in _ARRAYS})
