"""A1–A4: is this a chunk of numbers at all, and are they plausible in their units? What fails here is refused, never repaired.

A1 also turns the raw object into float32, the type that goes over the wire, because every later rule must judge what is sent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.rules.names import A1, A2, A3, A4
from safety.rules.rule import Evidence, Severity, passed
from safety.score import REJECT_POINT, rounded_value
from safety.verdict import RuleResult, RuleStatus

STEPS_MAX = 200
MAGNITUDE_MAX = 1e6
REAL_KINDS = "fiu"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeDtype:
    """A1: exactly a numpy array (no subclass) of real numbers, 1 ≤ T ≤ 200 steps of `width` numbers."""

    id: ClassVar[str] = A1
    ok: ClassVar[RuleResult] = passed(A1)
    severity: ClassVar[Severity] = Severity.REJECT
    width: int

    def read(self, raw: object) -> NDArray[np.float32] | RuleResult:
        """An own float32 copy in native byte order, or the refusal. Numbers that float32 cannot hold become infinite."""
        if type(raw) is not np.ndarray:  # a masked array or matrix would not mean what it says
            return self._refused("the chunk is not a plain numpy array")
        if raw.dtype.kind not in REAL_KINDS:
            return self._refused(f"the chunk's dtype is of kind {raw.dtype.kind!r}, not a real number")
        if raw.ndim != 2 or raw.shape[1] != self.width or not 1 <= raw.shape[0] <= STEPS_MAX:
            return self._refused(f"the chunk's shape is {raw.shape}, not (1 to {STEPS_MAX}, {self.width})")
        return raw.astype(np.float32, order="C")

    def _refused(self, message: str) -> RuleResult:
        return RuleResult(id=self.id, status=RuleStatus.REJECTED, score=0.0, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finite:
    """A2: every number is finite after the cast. One that is not refuses the whole chunk: the forward pass is broken."""

    id: ClassVar[str] = A2
    ok: ClassVar[RuleResult] = passed(A2)
    severity: ClassVar[Severity] = Severity.REJECT

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Reads only the peak: a maximum carries NaN and infinity along."""
        if math.isfinite(evidence.peak):
            return self.ok
        at = _place(~np.isfinite(evidence.actions))
        message = f"the number at step {at[0]}, column {at[1]} is not finite"
        return RuleResult(id=self.id, status=RuleStatus.REJECTED, score=0.0, at=at, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Magnitude:
    """A3: no number above 1e6, so that no later square overflows."""

    id: ClassVar[str] = A3
    ok: ClassVar[RuleResult] = passed(A3)
    severity: ClassVar[Severity] = Severity.REJECT

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Reads only the peak."""
        if evidence.peak <= MAGNITUDE_MAX:
            return self.ok
        at = _place(np.abs(evidence.actions) == evidence.peak)
        return RuleResult(
            id=self.id,
            status=RuleStatus.REJECTED,
            score=0.0,
            value=evidence.peak,
            limit=MAGNITUDE_MAX,
            at=at,
            message=f"the number at step {at[0]}, column {at[1]} is no plausible motion",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSuspect:
    """A4: five times a speed or step limit is not haste but a wrong unit (mm, degrees, un-normalised): refuse, do not scale."""

    id: ClassVar[str] = A4
    ok: ClassVar[RuleResult] = passed(A4)
    severity: ClassVar[Severity] = Severity.REJECT
    watched: frozenset[str]

    def judge(self, results: Sequence[RuleResult]) -> RuleResult:
        """Looks at what the speed and step rules found on the raw chunk."""
        refused = [result for result in results if result.status is RuleStatus.REJECTED and result.id in self.watched]
        suspects = [result for result in refused if _utilisation(result) >= REJECT_POINT]
        if not suspects:
            return self.ok
        worst = max(suspects, key=_utilisation)
        times = _utilisation(worst)
        step = 0 if worst.at is None else worst.at[0]
        return RuleResult(
            id=self.id,
            status=RuleStatus.REJECTED,
            score=0.0,
            value=times,
            limit=REJECT_POINT,
            unit="times the limit",
            at=worst.at,
            message=f"{worst.id} is at {rounded_value(times, None):g} times its limit at step {step}: a wrong unit is likely",
        )


def _utilisation(result: RuleResult) -> float:
    return 0.0 if result.value is None or result.limit is None else result.value / result.limit


def _place(mask: NDArray[np.bool_]) -> tuple[int, int]:
    step, column = np.unravel_index(int(mask.argmax()), mask.shape)
    return int(step), int(column)
