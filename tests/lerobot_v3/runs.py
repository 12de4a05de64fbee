"""Made-up episodes whose frames say which they are: what a test writes and finds again."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lerobot_v3.facts import DatasetFacts, Numbers, Video
from lerobot_v3.writer import Episode

FRONT = "observation.images.front"
FACTS = DatasetFacts(
    fps=10,
    robot_type="franka_panda",
    features={
        "observation.state": Numbers(names=("x", "y", "z")),
        "action": Numbers(names=("dx", "grip")),
        "next.success": Numbers(names=("is_success",), dtype="bool"),
        FRONT: Video(height=48, width=64),
    },
)


def shade(episode: int, frame: int) -> int:
    """The grey of a frame: far enough from its neighbours' to survive encoding."""
    return (episode * 37 + frame * 11) % 200 + 20


def pictures(number: int, length: int) -> Iterator[NDArray[np.uint8]]:
    """One after another, as a renderer makes them."""
    for frame in range(length):
        yield np.full((48, 64, 3), shade(number, frame), dtype=np.uint8)


def run(number: int, *, length: int = 7, task: str = "pick up the red cube") -> Episode:
    """Episode `number`."""
    rows = np.arange(length, dtype=np.float32)
    return Episode(
        source=f"run-{number}",
        task=task,
        numbers={
            "observation.state": np.stack([rows, rows + number, -rows], axis=1),
            "action": np.stack([rows / 10, np.full(length, number, dtype=np.float32)], axis=1),
            "next.success": rows == length - 1,
        },
        videos={FRONT: pictures(number, length)},
    )
