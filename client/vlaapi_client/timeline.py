"""Which step of which chunk is due now: pure arithmetic on times that are handed in. No thread, no network, no clock of its own.

Three rules. A chunk begins at the moment its observation was taken, in time during which the robot moved: what was executed while
the answer was on its way is skipped, what was held is not. A step is given once; a loop that comes too early is told to wait, one
that comes late skips. Nothing older than `max_age_s` is ever given.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vlaapi_client.results import Action

if TYPE_CHECKING:
    from numpy.typing import NDArray

EARLY = 0.25  # of a step: a loop's tick may come so much too early
# Kinds whose numbers may be averaged one by one; a mean of two quaternions, or of a pose's rotation vectors, is no rotation.
BLENDABLE = frozenset({"ee_delta_rotvec", "joint_abs", "joint_delta", "joint_vel"})


class Due(enum.Enum):
    """What the robot should do now."""

    MOVE = "move"  # execute `values`
    WAIT = "wait"  # go on with the step before; its time is not over
    HOLD = "hold"  # there is no motion to execute


@dataclass(frozen=True)
class Ticket:
    """An observation, as the timeline remembers it: when it was taken, and after which step of which chunk."""

    taken_at_s: float
    moved_s: float
    executed_index: int | None


@dataclass(frozen=True, eq=False)
class Given:
    """A step. `values` is None unless `due` is MOVE; `index` counts in its chunk."""

    due: Due
    values: NDArray[np.float32] | None = None
    index: int | None = None


@dataclass(frozen=True, eq=False)
class _Chunk:
    rows: NDArray[np.float32]
    action: Action
    taken_at_s: float
    begins_s: float  # in moved seconds

    def index_at(self, moved_s: float) -> int:
        return math.floor((moved_s - self.begins_s) * self.action.control_hz + EARLY)


class Timeline:
    """One robot's motion. Every `now_s` is of one monotonic clock. Not safe for threads: its owner locks."""

    def __init__(self, *, max_age_s: float, blend_steps: int = 0) -> None:
        if not max_age_s > 0 or blend_steps < 0:
            raise ValueError("max_age_s is more than 0 and blend_steps is not negative")
        self._max_age_s = max_age_s
        self._blend_steps = blend_steps
        self._chunk: _Chunk | None = None
        self._given = -1  # the last step of the chunk that was given
        self._due_s = -math.inf  # nothing new is due before, in moved seconds
        self._held_s = 0.0
        self._held_since_s: float | None = None
        self._executed_is_known = True

    def observe(self, now_s: float) -> Ticket:
        """The robot was looked at now; a request goes out with this."""
        self._notice_the_end(now_s)
        known = self._executed_is_known and self._chunk is not None
        return Ticket(now_s, self._moved_s(now_s), self._given if known else None)

    def arrive(self, ticket: Ticket, action: Action, now_s: float) -> bool:
        """Takes over the chunk that answers `ticket`, unless every step of it is over already; says whether it did."""
        self._notice_the_end(now_s)
        chunk = _Chunk(action.chunk, action, ticket.taken_at_s, ticket.moved_s)
        first = max(0, chunk.index_at(max(self._moved_s(now_s), self._due_s)))
        if first >= len(chunk.rows) or now_s - chunk.taken_at_s > self._max_age_s:
            self._executed_is_known = False  # the service remembers a chunk that was never executed
            return False
        self._chunk, self._given, self._executed_is_known = self._blended(chunk, first), -1, True
        return True

    def lose(self) -> None:
        """A request got no answer: the service may remember a chunk that nobody has seen."""
        self._executed_is_known = False

    def drop(self, now_s: float) -> None:
        """Hold from now on, whatever is left."""
        self._hold_from(now_s)
        self._chunk = None

    def step(self, now_s: float) -> Given:
        """What to do now."""
        self._notice_the_end(now_s)
        chunk = self._chunk
        if chunk is None:
            self._hold_from(now_s)
            return Given(Due.HOLD)
        self._move_from(now_s)
        moved_s, step_s = self._moved_s(now_s), 1 / chunk.action.control_hz
        if moved_s < self._due_s - EARLY * step_s:
            return Given(Due.WAIT)
        index = max(0, chunk.index_at(moved_s))
        self._given, self._due_s = index, chunk.begins_s + (index + 1) * step_s
        return Given(Due.MOVE, chunk.rows[index], index)

    def left(self, now_s: float) -> float:
        """The share of the chunk that is still to come, 0 to 1."""
        self._notice_the_end(now_s)
        if self._chunk is None:
            return 0.0
        return max(0.0, 1 - max(0, self._chunk.index_at(self._moved_s(now_s))) / len(self._chunk.rows))

    def _moved_s(self, now_s: float) -> float:
        holding_s = 0.0 if self._held_since_s is None else max(0.0, now_s - self._held_since_s)
        return now_s - self._held_s - holding_s

    def _hold_from(self, then_s: float) -> None:
        if self._held_since_s is None:
            self._held_since_s, self._due_s = then_s, -math.inf

    def _move_from(self, now_s: float) -> None:
        if self._held_since_s is not None:
            self._held_s += max(0.0, now_s - self._held_since_s)
            self._held_since_s = None

    def _notice_the_end(self, now_s: float) -> None:
        """Lets go of a chunk whose last step is over or which has become too old; holding began at that moment."""
        chunk = self._chunk
        if chunk is None:
            return
        step_s = 1 / chunk.action.control_hz
        over_s = self._moved_s(now_s) - (chunk.begins_s + len(chunk.rows) * step_s)
        too_old_s = now_s - chunk.taken_at_s - self._max_age_s
        if over_s < -EARLY * step_s and too_old_s <= 0:
            return
        self._hold_from(now_s - max(0.0, over_s, too_old_s))
        self._chunk = None

    def _blended(self, chunk: _Chunk, first: int) -> _Chunk:
        """Cross-fades from the chunk before over the first steps to come; the gripper is never averaged."""
        old, action = self._chunk, chunk.action
        if old is None or not self._blend_steps or action.kind not in BLENDABLE or old.action.names != action.names:
            return chunk
        if (old.action.kind, old.action.control_hz) != (action.kind, action.control_hz):
            return chunk
        rows = chunk.rows.copy()
        arm = np.array(["gripper" not in name for name in action.names])
        ahead = round((chunk.begins_s - old.begins_s) * action.control_hz)  # steps
        for nth, index in enumerate(range(first, min(first + self._blend_steps, len(rows)))):
            before = index + ahead
            if 0 <= before < len(old.rows):
                share = np.float32((nth + 1) / (self._blend_steps + 1))
                rows[index, arm] = (1 - share) * old.rows[before, arm] + share * rows[index, arm]
        rows.setflags(write=False)
        return replace(chunk, rows=rows)
