"""Where an arm stands when a chunk begins, as far as is known: the last accepted command if it is fresh, else the state.

The measured position alone would be too strict: it lags behind the command by some cycles. Knows no limit.
"""

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.known import Known
from safety.memory import TTL_S
from safety.rules.arm import Arm

Array = NDArray[np.float64]


def last_command(known: Known | None, arm: Arm) -> Array | None:
    """The previous chunk's row that was executed last, this arm's columns; None unless that is known and at most 10 s old."""
    if known is None or known.previous is None or known.executed_index is None or known.executed_index < 0:
        return None
    now = known.context.now_s
    if now is None or not 0 <= now - known.previous.sent_at_s <= TTL_S:
        return None
    return known.previous.actions[known.executed_index, arm.group.arm].astype(np.float64)


def reference(known: Known | None, arm: Arm, index: int) -> Array | None:
    """For absolute actions: joints (n,) in rad, or the end effector's position (3,) in m, in the chunk's own columns."""
    command = last_command(known, arm)
    if arm.kind is ActionKind.EE_ABS:
        position = None if known is None else known.arms[index].position
        return command[:3] if command is not None else position
    return command if command is not None or known is None else known.arms[index].q
