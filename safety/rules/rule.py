"""The small shape behind which every rule stands, and what a rule may look at.

A rule is a frozen value built once per (policy, robot) with the limits it needs. Later families (state, previous chunk, model
internals) add a field to `Evidence` and a file beside this one; nothing here changes for them. The guard is the only caller.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from safety.verdict import NotEvaluated, RuleResult, RuleStatus


class Severity(StrEnum):
    """What the guard does when the rule's limit is broken."""

    REJECT = "reject"
    CLAMP = "clamp"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What rules may look at. `actions` is (T, D): the float32 wire values, widened exactly so that norms do not round."""

    actions: NDArray[np.float64]
    peak: float  # the largest |a|; NaN or infinite when any number is


def evidence_of(wire: NDArray[np.float32]) -> Evidence:
    """Widens a chunk and takes its peak once for all rules. Needs at least one number."""
    actions = wire.astype(np.float64)
    return Evidence(actions, float(np.maximum.reduce(np.abs(actions), axis=None)))


class Rule(Protocol):
    """One check."""

    @property
    def id(self) -> str:
        """Its id in the catalogue, such as "B1.ee_linear_speed"."""

    @property
    def severity(self) -> Severity:
        """What breaking it leads to."""

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Never raises; a passed rule should cost next to nothing."""


@runtime_checkable
class ClampingRule(Rule, Protocol):
    """A check whose excess can be taken away without changing what the motion is."""

    def clamp(self, actions: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Brings `actions` within the limit, in place. Returns which steps of the arm became shorter; None: it is not touched."""


def passed(rule_id: str) -> RuleResult:
    """The result of an exact check that found nothing. Build it once, not per request."""
    return RuleResult(id=rule_id, status=RuleStatus.PASSED, score=1.0)


def not_evaluated(rule_id: str, reason: NotEvaluated) -> RuleResult:
    """The result of a rule that could not look. Build it once, not per request."""
    return RuleResult(id=rule_id, status=RuleStatus.NOT_EVALUATED, score=None, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpublished:
    """Stands in for a rule whose limit nobody published or configured: it says so and looks at nothing."""

    severity: ClassVar[Severity] = Severity.WARN
    result: RuleResult

    @property
    def id(self) -> str:
        """The id of the rule it stands in for."""
        return self.result.id

    def evaluate(self, evidence: Evidence) -> RuleResult:  # noqa: ARG002 -- the shape of a rule
        """Always the same."""
        return self.result


def unpublished(rule_id: str) -> Unpublished:
    """The stand-in for this rule."""
    return Unpublished(result=not_evaluated(rule_id, NotEvaluated.LIMIT_UNPUBLISHED))
