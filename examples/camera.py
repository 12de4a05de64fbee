"""A camera that every example can use: the shipped picture of a table, seen by a hand that is not quite still.

On a robot, put your own in its place: numpy (height, width, 3), uint8, RGB. OpenCV gives BGR: `frame[:, :, ::-1]`.
"""

import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PICTURE = Path(__file__).with_name("tabletop.png")


class Camera:
    """Frames of a table."""

    def __init__(self) -> None:
        self._table = np.asarray(Image.open(PICTURE).convert("RGB"))
        self._random = np.random.default_rng()

    def frame(self) -> NDArray[np.uint8]:
        """What is seen now."""
        right, down = self._random.integers(-1, 2, 2)
        return np.roll(self._table, (int(down), int(right)), axis=(0, 1))


def service() -> tuple[str, str]:
    """URL and KEY from the environment; `vlaapi status` shows both of a service on this machine."""
    return os.environ.get("URL", "http://127.0.0.1:8080"), os.environ.get("KEY") or sys.exit("set KEY to your API key")
