"""A context after a hostile reading: what of it can be believed, as arrays per arm, or the first field that cannot.

Shapes, finiteness and possibility only; rules judge. Nothing in here can widen a limit. `Guard` calls `read` once per request.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionSpace
from safety.context import Context, PreviousChunk, RobotState
from safety.rules.arm import Arm
from safety.verdict import RefusedFor

Array = NDArray[np.float64]
METRES_MAX = 100.0
NUMBER_MAX = 1e9
WHOLE_MAX = 2**63
TOLERANCE_RAD = 0.0087  # half a degree: what ros2_control lets a measured joint be outside its limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with the request itself: `field` of it, as the caller names it."""

    cause: RefusedFor
    field: str
    message: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ArmState:
    """One arm as reported; None where it was not."""

    q: Array | None = None
    position: Array | None = None
    gripper: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A believable context. `previous` fits this action space; `executed_index` fits `previous`."""

    context: Context
    arms: tuple[ArmState, ...]
    previous: PreviousChunk | None
    executed_index: int | None

    @property
    def has_state(self) -> bool:
        """True when any arm reported joints, a position or a gripper."""
        return any(arm.q is not None or arm.position is not None or arm.gripper is not None for arm in self.arms)


def read(context: Context, space: ActionSpace, arms: Sequence[Arm]) -> Known | Fault:
    """Known, or the first fault: state first, then sequence."""
    states = _read_state(context.state, space, arms)
    if isinstance(states, Fault):
        return states
    previous = _fitting(context.previous, space)
    fault = _sequence_fault(context, previous)
    if fault is not None:
        return fault
    executed = context.executed_index if previous is not None and context.executed_index is not None else None
    return Known(context, states, previous, executed)


def _read_state(state: RobotState | None, space: ActionSpace, arms: Sequence[Arm]) -> tuple[ArmState, ...] | Fault:
    if state is None:
        return tuple(ArmState() for _ in arms)
    joints = arms[0].joints
    read = {
        "state.q": _numbers(state.q, "state.q", joints * len(arms), NUMBER_MAX),
        "state.ee_position": _numbers(state.ee_position, "state.ee_position", 3 * len(arms), METRES_MAX),
        "state.gripper": _numbers(_listed(state.gripper), "state.gripper", len(arms) if space.has_gripper else None, NUMBER_MAX),
    }
    for found in read.values():
        if isinstance(found, Fault):
            return found
    q, position, gripper = (None if isinstance(found, Fault) else found for found in read.values())
    if q is not None and (fault := _impossible(q, arms)) is not None:
        return fault
    return tuple(
        ArmState(
            q=None if q is None else q[at * joints : (at + 1) * joints],
            position=None if position is None else position[at * 3 : at * 3 + 3],
            gripper=None if gripper is None or not space.has_gripper else float(gripper[at]),
        )
        for at in range(len(arms))
    )


def _listed(gripper: object) -> object:
    return [gripper] if isinstance(gripper, int | float) and not isinstance(gripper, bool) else gripper


def _numbers(values: object, field: str, count: int | None, largest: float) -> Array | Fault | None:
    """A float64 array of `count` finite numbers (any count: None), None when not given, or the fault."""
    if values is None:
        return None
    is_array = type(values) is np.ndarray and values.ndim == 1 and values.dtype.kind in "fiu"
    is_list = isinstance(values, list | tuple) and all(
        isinstance(number, int | float | np.floating | np.integer) and not isinstance(number, bool) for number in values
    )
    if not is_array and not is_list:
        return Fault(cause=RefusedFor.STATE, field=field, message=f"{field} is not a list of numbers")
    numbers: Sequence[float] = values  # type: ignore[assignment]
    if count is not None and len(numbers) != count:
        return Fault(cause=RefusedFor.STATE, field=field, message=f"{field} has {len(numbers)} numbers; {count} are needed")
    for index, number in enumerate(numbers):
        if not abs(number) <= largest:
            where = f"{field}[{index}]"
            return Fault(cause=RefusedFor.STATE, field=where, message=f"{where} is no possible number")
    return np.array([float(number) for number in numbers])


def _impossible(q: Array, arms: Sequence[Arm]) -> Fault | None:
    """A joint that reports to be where it cannot be: the state is wrong, or it is another robot's."""
    low, high = np.tile(arms[0].hard_low, len(arms)), np.tile(arms[0].hard_high, len(arms))
    beyond = np.maximum(low - q, q - high)
    worst = int(beyond.argmax())
    if beyond[worst] <= TOLERANCE_RAD:
        return None
    limit = float(low[worst] if q[worst] < low[worst] else high[worst])
    where = f"state.q[{worst}]"
    message = f"{where} is {q[worst]:.4g} rad, where this robot cannot be; its limit is {limit:.12g}"
    return Fault(cause=RefusedFor.STATE, field=where, message=message, value=float(q[worst]), limit=limit)


def _fitting(previous: PreviousChunk | None, space: ActionSpace) -> PreviousChunk | None:
    """The previous chunk, or None when it cannot be of this policy: then the session is as good as lost."""
    if previous is None:
        return None
    actions = previous.actions
    is_chunk = type(actions) is np.ndarray and actions.ndim == 2 and actions.shape[1] == space.width and len(actions) > 0
    is_timed = isinstance(previous.sent_at_s, int | float) and math.isfinite(previous.sent_at_s)
    return previous if is_chunk and is_timed and actions.dtype == np.float32 and np.isfinite(actions).all() else None


def _sequence_fault(context: Context, previous: PreviousChunk | None) -> Fault | None:
    for field, number in (("seq", context.seq), ("executed_index", context.executed_index)):
        if number is not None and (type(number) is not int or abs(number) >= WHOLE_MAX):
            return Fault(cause=RefusedFor.SEQUENCE, field=field, message=f"{field} is not a whole number of 64 bits")
    if previous is None:
        return None
    if context.seq is not None and previous.seq is not None and context.seq <= previous.seq:
        message = f"seq {context.seq} does not follow {previous.seq}: replayed or out of order"
        return Fault(cause=RefusedFor.SEQUENCE, field="seq", message=message, value=float(context.seq), limit=float(previous.seq))
    executed, steps = context.executed_index, len(previous.actions)
    if executed is not None and not -1 <= executed < steps:
        message = f"executed_index {executed} is not of the previous chunk, which had {steps} steps (-1: none executed)"
        return Fault(cause=RefusedFor.SEQUENCE, field="executed_index", message=message, value=float(executed), limit=steps - 1.0)
    return None
