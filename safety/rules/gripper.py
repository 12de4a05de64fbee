"""B4 and B7: the gripper command stays in its range, and where a largest step is configured, moves no faster.

A normalised command has no physical speed, so B7 exists only where someone configured a number. Knows no polarity.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.rules.names import B4, B7
from safety.rules.rule import Evidence, Severity, not_evaluated, passed
from safety.score import BELOW_HALF, judge, rounded_value
from safety.verdict import NotEvaluated, RuleResult, RuleStatus

FLOAT32_STEP_SHARE = 2.0**-22  # what rounding a command to float32 may add to a change, as a share of the range's larger end


@dataclass(frozen=True, slots=True, kw_only=True)
class GripperRange:
    """B4: low ≤ g ≤ high, compared as values. Farther outside than one full range means another unit: refused."""

    id: ClassVar[str] = B4
    ok: ClassVar[RuleResult] = passed(B4)
    severity: ClassVar[Severity] = Severity.CLAMP
    column: int
    low: float
    high: float
    unit: str

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """The farthest outside decides. Being at an end is normal and scores 1."""
        lowest, highest = evidence.ends_of(self.column)
        if self.low <= lowest and highest <= self.high:
            return self.ok
        is_below = self.low - lowest > highest - self.high
        value, limit = (lowest, self.low) if is_below else (highest, self.high)
        commands = evidence.actions[:, self.column]
        step = int(commands.argmin() if is_below else commands.argmax())
        outside = abs(value - limit) / (self.high - self.low)
        is_refused = outside > 1.0
        return RuleResult(
            id=self.id,
            status=RuleStatus.REJECTED if is_refused else RuleStatus.CLAMPED,
            score=0.0 if is_refused else min(0.5 * (1.0 - 0.5 * outside), BELOW_HALF),
            value=value,
            limit=limit,
            unit=self.unit,
            at=(step, self.column),
            message=f"step {step} commands the gripper to {rounded_value(value, limit):.12g}; the limit is {limit:.12g}",
        )

    @property
    def enforces(self) -> frozenset[str]:
        """Itself."""
        return frozenset({self.id})

    def clamp(self, actions: NDArray[np.float64], evidence: Evidence) -> None:  # noqa: ARG002 -- the shape of a clamp
        """Ends are put exactly; commands within are not touched. The arm's motion stays as it is."""
        commands = actions[:, self.column]
        commands[commands < self.low] = self.low
        commands[commands > self.high] = self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class GripperStep:
    """B7: |g_t − g_{t−1}| ≤ step_max inside the chunk. The first step has nothing to be compared with."""

    id: ClassVar[str] = B7
    alone: ClassVar[RuleResult] = not_evaluated(B7, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.CLAMP
    column: int
    step_max: float
    range_end: float  # the larger |end| of the range: how coarse float32 is there
    unit: str

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """The largest change decides."""
        commands = evidence.actions[:, self.column]
        if len(commands) == 1:
            return self.alone
        changes = np.abs(commands[1:] - commands[:-1])
        index = int(changes.argmax())
        value = float(changes[index])
        status, score = judge(value, self.step_max)
        return RuleResult(
            id=self.id,
            status=status,
            score=score,
            value=value,
            limit=self.step_max,
            unit=self.unit,
            at=(index + 1, self.column),
            message=None if value <= self.step_max else self._message(index + 1, value),
        )

    @property
    def enforces(self) -> frozenset[str]:
        """Itself."""
        return frozenset({self.id})

    def clamp(self, actions: NDArray[np.float64], evidence: Evidence) -> None:
        """Follows the commands at the largest allowed rate, in float32 values. The arm's motion stays as it is."""
        del evidence
        commands = actions[:, self.column].tolist()
        room = self.step_max - FLOAT32_STEP_SHARE * self.range_end
        for step in range(1, len(commands)):
            change = commands[step] - commands[step - 1]
            if abs(change) > self.step_max:
                commands[step] = float(np.float32(commands[step - 1] + (room if change > 0 else -room)))
        actions[:, self.column] = commands

    def _message(self, step: int, value: float) -> str:
        return f"step {step} changes the gripper by {rounded_value(value, self.step_max):.12g}; the limit is {self.step_max:.12g}"
