"""What a refusal suggests instead: hold. Not a safe state; only the client's controller knows the right stop.

Deltas and velocities: zeros. Absolute actions: where the arm is or was last sent. The gripper keeps its last command, because 0
could open it and drop what it holds. What is not known is None, never guessed.
"""

from safety.action_space import ActionKind, ActionSpace, Group
from safety.known import ArmState, Known
from safety.verdict import Fallback

MOVES = frozenset({ActionKind.EE_ABS, ActionKind.JOINT_ABS})  # for these, zeros would be a motion


def hold(space: ActionSpace, known: Known | None, gripper_range: tuple[float, float]) -> Fallback:
    """One row of the action space; None as a whole where no arm's motion can be held."""
    row: list[float | None] = []
    for index, group in enumerate(space.groups):
        state = None if known is None else known.arms[index]
        arm = _arm(space, group, known, state)
        if arm is None:
            return Fallback(type="hold", values=None)
        row += arm
        if group.gripper is not None:
            row.append(_gripper(group.gripper, known, state, gripper_range))
    return Fallback(type="hold", values=tuple(row))


def _arm(space: ActionSpace, group: Group, known: Known | None, state: ArmState | None) -> list[float] | None:
    if space.kind not in MOVES:
        return [0.0] * (group.stop - group.start)
    if space.kind is ActionKind.JOINT_ABS and state is not None and state.q is not None:
        return [float(number) for number in state.q]
    last = _last_row(known)
    return None if last is None else last[group.arm]


def _gripper(column: int, known: Known | None, state: ArmState | None, gripper_range: tuple[float, float]) -> float | None:
    """The last command, else what was reported, if it is a possible command."""
    last = _last_row(known)
    held = last[column] if last is not None else None if state is None else state.gripper
    low, high = gripper_range
    return held if held is not None and low <= held <= high else None


def _last_row(known: Known | None) -> list[float] | None:
    """The row of the previous chunk that was executed last, if that is known, else its end, where the robot is going."""
    if known is None or known.previous is None:
        return None
    executed = known.executed_index
    rows = known.previous.actions
    row = rows[-1] if executed is None or executed < 0 else rows[executed]
    return [float(number) for number in row]
