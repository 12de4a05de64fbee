"""E3: how much of a chunk is already past when it arrives. A chunk that is wholly past is refused.

Adds what the client measured (age of the observation, last round trip) and what the server spent; knows no clock.
"""

from dataclasses import dataclass
from typing import ClassVar

from safety.context import Context
from safety.rules.names import E3
from safety.rules.rule import Evidence, Severity, not_evaluated
from safety.verdict import NotEvaluated, RuleResult, RuleStatus

FRESH_SHARE = 0.25
WARN_SHARE = 0.5
DURATION_MAX_MS = 1e300  # beyond it a sum is infinite, and a whole number no float


def age_ms(context: Context) -> float | None:
    """Since the observation was taken; None unless its age was reported. An unknown server or network time counts as none."""
    parts = (context.obs_age_ms, context.server_ms, context.network_rtt_ms)
    if context.obs_age_ms is None or not all(_is_duration(part) for part in parts if part is not None):
        return None
    return sum(float(part) for part in parts if part is not None)


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= DURATION_MAX_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Staleness:
    """E3: age · f / T. Above a quarter the score falls, from a half on it warns, from 1 (or the customer's cap) it refuses."""

    id: ClassVar[str] = E3
    unknown: ClassVar[RuleResult] = not_evaluated(E3, NotEvaluated.NO_TIMESTAMP)
    severity: ClassVar[Severity] = Severity.REJECT
    control_hz: float
    age_max_ms: float | None

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """A negative or infinite age is no age."""
        age = None if evidence.known is None else age_ms(evidence.known.context)
        if age is None:
            return self.unknown
        share = age * self.control_hz / (1000.0 * len(evidence.actions))
        if self.age_max_ms is not None:
            share = max(share, age / self.age_max_ms)
        is_past = share >= 1.0
        fallen = 1.0 if share <= FRESH_SHARE else 1.0 - 0.5 * (share - FRESH_SHARE) / (1.0 - FRESH_SHARE)
        within = RuleStatus.WARNED if share >= WARN_SHARE else RuleStatus.PASSED
        return RuleResult(
            id=self.id,
            status=RuleStatus.REJECTED if is_past else within,
            score=0.0 if is_past else fallen,
            value=min(share, 1e9),
            limit=1.0,
            unit="share of the chunk",
            message=f"the observation is {min(age, 1e9):.4g} ms old" if share >= WARN_SHARE else None,
        )
