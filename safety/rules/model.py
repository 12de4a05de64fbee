"""F1 and F2: what the policy itself tells. How unsure its tokens are, and whether its numbers are like those it was trained on.

Uncalibrated until a customer's successful rollouts were looked at (`calibration.py`); until then F1 only informs.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.calibration import WIDTH_MIN, Threshold, outside
from safety.context import TokenEvidence
from safety.rules.names import F1, F2
from safety.rules.rule import Evidence, Severity, not_evaluated, passed, warned
from safety.rules.session import informed_or_warned
from safety.verdict import NotEvaluated, RuleResult

Array = NDArray[np.float64]
BEYOND_TRAINING = 0.5  # half-widths outside the 1st to 99th percentile: the range widened one and a half times


def mean_entropy(tokens: TokenEvidence) -> float | None:
    """The mean entropy as a share of the largest possible; None for what is no entropy."""
    entropies = np.asarray(tokens.entropy_nats, dtype=np.float64)
    if tokens.bin_count < 2 or entropies.ndim != 1 or len(entropies) == 0 or not np.isfinite(entropies).all():
        return None
    return max(float(entropies.mean()), 0.0) / math.log(tokens.bin_count)  # rounding makes a certain token's -1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEntropy:
    """F1: high entropy means that the policy could as well have said something else."""

    id: ClassVar[str] = F1
    unknown: ClassVar[RuleResult] = not_evaluated(F1, NotEvaluated.NOT_APPLICABLE)
    severity: ClassVar[Severity] = Severity.WARN
    threshold: Threshold | None

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Policies that do not speak in tokens have none."""
        tokens = None if evidence.known is None else evidence.known.context.tokens
        value = None if tokens is None else mean_entropy(tokens)
        if value is None:
            return self.unknown
        return informed_or_warned(self.id, value, self.threshold, "share of the largest entropy", "the policy is unsure")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActionRangeRule:
    """F2: the number farthest outside the training range, in half-widths of it."""

    id: ClassVar[str] = F2
    ok: ClassVar[RuleResult] = passed(F2)
    severity: ClassVar[Severity] = Severity.WARN
    low: Array
    high: Array
    limit: float
    lowest: Array  # infinite where a column has no width
    highest: Array

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Inside is the usual case."""
        actions = evidence.actions
        if not ((actions < self.lowest) | (actions > self.highest)).any():
            return self.ok
        shares = outside(evidence.actions, self.low, self.high)
        step, column = divmod(int(shares.argmax()), shares.shape[1])
        value = float(shares[step, column])
        message = f"column {column} at step {step} is {value:.4g} half-widths outside the training range"
        return warned(
            self.id, value / self.limit, value=value, limit=self.limit, unit="half-widths", at=(step, column), message=message
        )


def action_range_rule(low: tuple[float, ...], high: tuple[float, ...], limit: float) -> ActionRangeRule:
    """The rule for one range; columns without width are not looked at."""
    has_width = [b - a > WIDTH_MIN for a, b in zip(low, high, strict=True)]
    return ActionRangeRule(
        low=np.array(low),
        high=np.array(high),
        limit=max(limit, 1e-12),
        lowest=np.where(has_width, low, -math.inf),
        highest=np.where(has_width, high, math.inf),
    )
