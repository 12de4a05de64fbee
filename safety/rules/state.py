"""D0: the reported state can be one of this robot. `known.read` has looked before any rule; a fault there refused the request."""

from dataclasses import dataclass
from typing import ClassVar

from safety.rules.names import D0
from safety.rules.rule import Evidence, Severity, not_evaluated, passed
from safety.verdict import NotEvaluated, RuleResult


@dataclass(frozen=True, slots=True, kw_only=True)
class StateValid:
    """D0: finite, of the right length, and no joint more than half a degree beyond its end."""

    id: ClassVar[str] = D0
    ok: ClassVar[RuleResult] = passed(D0)
    unknown: ClassVar[RuleResult] = not_evaluated(D0, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.REJECT

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """What got this far is valid."""
        return self.ok if evidence.known is not None and evidence.known.has_state else self.unknown
