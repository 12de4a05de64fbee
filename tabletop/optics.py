"""Where the fixed camera stands, and where a point of the table appears in its picture.

Numbers only: the simulator builds its camera from them, training uses them to tell the network where to look. It knows neither.
"""

import numpy as np
from numpy.typing import NDArray

FRONT_AT_M, FRONT_LOOKS_AT_M, FRONT_FOVY_DEG = (1.12, 0.28, 0.62), (0.46, -0.01, 0.09), 36.0
UP = (0.0, 0.0, 1.0)


def axes(at: tuple[float, ...], looks_at: tuple[float, ...], up: tuple[float, ...] = UP) -> NDArray[np.float64]:
    """(3, 3), columns: to the right, upward and backward, of a camera at `at` that looks at `looks_at`."""
    forward = (np.array(looks_at) - at) / np.linalg.norm(np.array(looks_at) - at)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    return np.column_stack([right, np.cross(right, forward), -forward])


def in_picture(points_m: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, 3) m in the robot's base frame → (N, 2) columns and rows, 0 to 1 from the upper left; else outside of it."""
    seen = (points_m - np.array(FRONT_AT_M)) @ axes(FRONT_AT_M, FRONT_LOOKS_AT_M)
    reach = np.maximum(-seen[:, 2], 1e-6) * np.tan(np.deg2rad(FRONT_FOVY_DEG) / 2)
    return np.stack([seen[:, 0] / reach, -seen[:, 1] / reach], axis=-1) / 2 + 0.5
