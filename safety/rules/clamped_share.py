"""B8: a policy whose motion is shortened in more than a quarter of its steps is no longer that policy, so the chunk is refused.

Judges what the clamps did, not the numbers. Only the arm's motion counts: putting a gripper command to its end changes nothing
that the policy meant.
"""

from dataclasses import dataclass
from typing import ClassVar

from safety.rules.names import B8
from safety.rules.rule import Severity, passed
from safety.score import ramp, rounded_value
from safety.verdict import RuleResult, RuleStatus

SHARE_MAX = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ClampedShare:
    """At most a quarter of the steps, and always one: a chunk of one to three steps would otherwise never be clamped."""

    id: ClassVar[str] = B8
    ok: ClassVar[RuleResult] = passed(B8)
    severity: ClassVar[Severity] = Severity.REJECT

    def judge(self, *, shortened: int, steps: int) -> RuleResult:
        """`shortened` of `steps` were scaled by more than rounding."""
        if shortened == 0:
            return self.ok
        share, limit = shortened / steps, max(SHARE_MAX, 1 / steps)
        is_over = share > limit
        score = ramp(share / limit, reject_point=1.0)
        within = RuleStatus.PASSED if score == 1.0 else RuleStatus.WARNED
        return RuleResult(
            id=self.id,
            status=RuleStatus.REJECTED if is_over else within,
            score=score,
            value=share,
            limit=limit,
            unit="share of steps",
            message=f"{shortened} of {steps} steps would be scaled; the limit is {rounded_value(limit, None):g}"
            if is_over
            else None,
        )
