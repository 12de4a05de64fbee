"""H1: the array about to be returned is measured again with the same rules. It can only fail through a fault of ours.

Needed only after a clamp: an untouched chunk is, byte for byte, the array that the rules have just measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from safety.rules.names import H1
from safety.rules.rule import Evidence, Rule, Severity, passed
from safety.verdict import RuleResult, RuleStatus

BINDING = frozenset({Severity.REJECT, Severity.TRUNCATE, Severity.CLAMP})
BROKEN = frozenset({RuleStatus.CLAMPED, RuleStatus.TRUNCATED, RuleStatus.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class PostCheck:
    """No rule that rejects or clamps may still find anything."""

    id: ClassVar[str] = H1
    ok: ClassVar[RuleResult] = passed(H1)
    severity: ClassVar[Severity] = Severity.REJECT

    def judge(self, rules: Iterable[Rule], evidence: Evidence) -> RuleResult:
        """`rules` in the order in which the raw chunk met them; `evidence` of the array about to be returned."""
        for rule in rules:
            if rule.severity in BINDING and evidence.result_of(rule).status in BROKEN:
                message = f"{rule.id} still fails after clamping, so nothing is returned"
                return RuleResult(id=self.id, status=RuleStatus.REJECTED, score=0.0, message=message)
        return self.ok
