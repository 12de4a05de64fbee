"""Does each task by looking at the truth: what the demonstrations and the labels come from.

It has no memory, so it can say what to do in any situation, also one that a mistake led to. It knows no images and no language.
"""

import numpy as np
from numpy.typing import NDArray

from tabletop.arm import TOOL_DOWN, Array, rotation_of, turn_between
from tabletop.scene import View
from tabletop.tasks import is_in_bowl, place_of
from tabletop.things import BOWL, BOWL_HEIGHT_M, BOWL_RADIUS_M
from tabletop.verbs import Task, Verb

SHIFT_CAP_M = 0.02  # 0.2 m/s at 10 Hz: 80 % of what the guard's `reduced` preset allows
TURN_CAP_RAD = 0.10
HOLD_HEIGHT_M = 0.14
HOVER_M = 0.09
_NEAR_M, _NEAR_RAD, _LOW_M = 0.012, 0.20, 0.012  # well inside what the fingers forgive
_GRASP_WIDTH_M = (0.03, 0.046)  # fingers on something 4 cm wide
_OPEN_M = 0.065
_CARRY_M, _RELEASE_M = 0.11, BOWL_HEIGHT_M + 0.045  # heights of the tool: over everything, and just above the rim
_OVER_BOWL_M = 0.016


def expert_action(view: View, task: Task) -> NDArray[np.float32]:
    """(7,) the next action toward the end of that task, tool pointing down."""
    match task.verb:
        case Verb.PICK_UP:
            return _pick_up(view, task.thing)
        case Verb.MOVE_TO:
            return _move_to(view, task.thing)
        case Verb.PUT_IN_BOWL:
            return _put_in_bowl(view, task.thing)


def goal_of(view: View, task: Task) -> tuple[Array, float]:
    """What the hand is after now: the gap to it (3,) m from the tool, and the turn (rad) that lines the fingers up with it."""
    if task.thing == BOWL:
        return place_of(view, BOWL) - view.tool.position, 0.0
    gap = view.things[task.thing].position - view.tool.position
    if task.verb is Verb.PUT_IN_BOWL and view.bowl_at is not None and (_holds(view, gap) or is_in_bowl(view, task.thing)):
        return view.bowl_at - view.tool.position, 0.0
    return gap, yaw_to_grasp(view, task.thing)


def yaw_to_grasp(view: View, name: str) -> float:
    """The smallest turn (rad, within ±45°) that lines the fingers up: a cube is alike after a quarter turn, a cylinder always."""
    seen = view.things[name]
    angle = (0.0 if seen.is_round else seen.yaw_rad) - view.tool.yaw_rad
    return float((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)


def _pick_up(view: View, name: str) -> NDArray[np.float32]:
    gap = view.things[name].position - view.tool.position
    if _holds(view, gap):
        return _action(view, np.array([0.0, 0.0, HOLD_HEIGHT_M - view.tool.position[2]]), 0.0, is_closed=True)
    yaw = yaw_to_grasp(view, name)
    sideways = float(np.hypot(gap[0], gap[1]))
    is_aligned = sideways < _NEAR_M and abs(yaw) < _NEAR_RAD
    if is_aligned and abs(gap[2]) < _LOW_M and view.finger_width_m > _GRASP_WIDTH_M[0]:
        return _action(view, gap, yaw, is_closed=True)
    hover = min(HOVER_M, 2.5 * max(0.0, sideways - 0.6 * _NEAR_M) + 0.4 * max(0.0, abs(yaw) - 0.6 * _NEAR_RAD))
    if view.finger_width_m < _OPEN_M and gap[2] > -0.05:
        hover = HOVER_M  # open the fingers above the thing, not beside it
    return _action(view, _rising_first(gap + np.array([0.0, 0.0, hover])), yaw, is_closed=False)


def _move_to(view: View, name: str) -> NDArray[np.float32]:
    over = place_of(view, name) + np.array([0.0, 0.0, HOVER_M])
    return _action(view, _rising_first(over - view.tool.position), 0.0, is_closed=False)


def _put_in_bowl(view: View, name: str) -> NDArray[np.float32]:
    if view.bowl_at is None:
        return _pick_up(view, name)
    thing, tool = view.things[name].position, view.tool.position
    aside = view.bowl_at[:2] - tool[:2]
    distance = float(np.hypot(*aside))
    is_held = _holds(view, thing - tool)
    if is_in_bowl(view, name) or (not is_held and float(np.hypot(*(thing - view.bowl_at)[:2])) < BOWL_RADIUS_M):
        return _action(view, np.array([0.0, 0.0, HOLD_HEIGHT_M - tool[2]]), 0.0, is_closed=False)
    if not is_held:
        return _pick_up(view, name)
    if distance < _OVER_BOWL_M and tool[2] < _RELEASE_M + 0.01:
        return _action(view, np.zeros(3), 0.0, is_closed=False)
    height = _RELEASE_M + min(_CARRY_M - _RELEASE_M, max(0.0, 2.0 * (distance - 0.01)))
    shift = np.array([*aside, height - tool[2]])
    if tool[2] < height - 0.02:
        shift[:2] *= 0.15  # up first: what is carried must not drag over the others
    return _action(view, shift, 0.0, is_closed=True)


def _rising_first(shift: Array) -> Array:
    """The same way, but hardly sideways while the tool is too low to travel."""
    return np.array([*(shift[:2] * 0.2), shift[2]]) if shift[2] > 0.025 else shift


def _holds(view: View, gap: Array) -> bool:
    low, high = _GRASP_WIDTH_M
    return low < view.finger_width_m < high and float(np.linalg.norm(gap)) < 0.025


def _action(view: View, shift: Array, yaw_rad: float, *, is_closed: bool) -> NDArray[np.float32]:
    upright = rotation_of(np.array([0.0, 0.0, view.tool.yaw_rad + yaw_rad])) @ TOOL_DOWN
    turn = turn_between(view.tool.rotation, upright)
    return np.array([*_capped(shift, SHIFT_CAP_M), *_capped(turn, TURN_CAP_RAD), float(is_closed)], dtype=np.float32)


def _capped(vector: Array, cap: float) -> Array:
    return vector * min(1.0, cap / max(float(np.linalg.norm(vector)), 1e-9))
