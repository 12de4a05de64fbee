"""Picks up a cube by looking at the truth: what the demonstrations and the labels come from.

It has no memory, so it can say what to do in any situation, also one that a mistake led to. It knows no images and no language.
"""

import numpy as np
from numpy.typing import NDArray

from tabletop.arm import TOOL_DOWN, Array, rotation_of, turn_between
from tabletop.scene import View

SHIFT_CAP_M = 0.02  # 0.2 m/s at 10 Hz: 80 % of what the guard's `reduced` preset allows
TURN_CAP_RAD = 0.10
HOLD_HEIGHT_M = 0.14
HOVER_M = 0.09
_NEAR_M, _NEAR_RAD, _LOW_M = 0.012, 0.20, 0.012  # well inside what the fingers forgive
_GRASP_WIDTH_M = (0.03, 0.046)  # fingers on a 4 cm cube
_OPEN_M = 0.065


def expert_action(view: View, colour: str) -> NDArray[np.float32]:
    """(7,) the next action toward holding that cube in the air, tool pointing down."""
    gap = view.cube_positions[colour] - view.tool.position
    if _holds(view, gap):
        return _action(view, np.array([0.0, 0.0, HOLD_HEIGHT_M - view.tool.position[2]]), 0.0, is_closed=True)
    yaw = yaw_to_grasp(view, colour)
    sideways = float(np.hypot(gap[0], gap[1]))
    is_aligned = sideways < _NEAR_M and abs(yaw) < _NEAR_RAD
    if is_aligned and abs(gap[2]) < _LOW_M and view.finger_width_m > _GRASP_WIDTH_M[0]:
        return _action(view, gap, yaw, is_closed=True)
    hover = min(HOVER_M, 2.5 * max(0.0, sideways - 0.6 * _NEAR_M) + 0.4 * max(0.0, abs(yaw) - 0.6 * _NEAR_RAD))
    if view.finger_width_m < _OPEN_M and gap[2] > -0.05:
        hover = HOVER_M  # open the fingers above the cube, not beside it
    shift = gap + np.array([0.0, 0.0, hover])
    if shift[2] > 0.025:
        shift[:2] *= 0.2  # too low to travel: rise first
    return _action(view, shift, yaw, is_closed=False)


def yaw_to_grasp(view: View, colour: str) -> float:
    """The smallest turn (rad, within ±45°) that lines the fingers up: a cube looks alike after a quarter turn."""
    angle = view.cube_yaws_rad[colour] - view.tool.yaw_rad
    return float((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)


def _holds(view: View, gap: Array) -> bool:
    low, high = _GRASP_WIDTH_M
    return low < view.finger_width_m < high and float(np.linalg.norm(gap)) < 0.025


def _action(view: View, shift: Array, yaw_rad: float, *, is_closed: bool) -> NDArray[np.float32]:
    upright = rotation_of(np.array([0.0, 0.0, view.tool.yaw_rad + yaw_rad])) @ TOOL_DOWN
    turn = turn_between(view.tool.rotation, upright)
    return np.array([*_capped(shift, SHIFT_CAP_M), *_capped(turn, TURN_CAP_RAD), float(is_closed)], dtype=np.float32)


def _capped(vector: Array, cap: float) -> Array:
    return vector * min(1.0, cap / max(float(np.linalg.norm(vector)), 1e-9))
