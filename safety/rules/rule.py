"""The small shape behind which every rule stands, and what a rule may look at.

A rule is a frozen value built once per (policy, robot) with the limits it needs. What it looks at comes with the `Evidence`; what
is not known there leaves it unevaluated, with the reason. The guard is the only caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from safety.kinematics import Frames
from safety.known import ArmState, Known
from safety.rules.arm import Arm, Track, track_of
from safety.score import REJECT_POINT, WARN_POINT, ramp
from safety.verdict import NotEvaluated, RuleResult, RuleStatus

Array = NDArray[np.float64]
NOT_REPORTED = ArmState()


class Severity(StrEnum):
    """What the guard does when the rule's limit is broken."""

    REJECT = "reject"
    TRUNCATE = "truncate"
    CLAMP = "clamp"
    WARN = "warn"


@dataclass(slots=True, eq=False)
class Evidence:
    """What rules may look at. `actions` is (T, D): the float32 wire values, widened exactly so that norms do not round."""

    actions: Array
    peak: float  # the largest |a|; NaN or infinite when any number is
    known: Known | None = None
    tracks: dict[str, Track] = field(default_factory=dict)
    postures: dict[int, Frames] = field(default_factory=dict)
    measured: dict[tuple[str, int], Array] = field(default_factory=dict)  # what a rule saw, for its own clamp
    ends: dict[int, tuple[float, float]] = field(default_factory=dict)
    results: dict[str, RuleResult] = field(default_factory=dict)  # by rule; a guard has one of each

    def result_of(self, rule: "Rule") -> RuleResult:
        """What a rule says about exactly these numbers, asked once: cutting and the post-check look at the same array."""
        found = self.results.get(rule.id)
        if found is None:
            found = self.results[rule.id] = rule.evaluate(self)
        return found

    def ends_of(self, column: int) -> tuple[float, float]:
        """The lowest and the highest number of a column, worked out once."""
        found = self.ends.get(column)
        if found is None:
            numbers = self.actions[:, column]
            found = self.ends[column] = float(np.minimum.reduce(numbers)), float(np.maximum.reduce(numbers))
        return found

    def track(self, arm: Arm, index: int) -> Track:
        """Where the chunk takes this arm, worked out once."""
        track = self.tracks.get(arm.group.name)
        if track is None:
            state = NOT_REPORTED if self.known is None else self.known.arms[index]
            position = state.position
            if position is None and not arm.is_joints and (posture := self.posture(arm, index)) is not None:
                position = posture.end[0]
            track = self.tracks[arm.group.name] = track_of(arm, self.actions, state.q, position)
        return track

    def posture(self, arm: Arm, index: int) -> Frames | None:
        """Where the reported joints put the arm, worked out once; None where they or the kinematics are not known."""
        found = self.postures.get(index)
        if found is None:
            q = None if self.known is None else self.known.arms[index].q
            if q is None or arm.chain is None:
                return None
            found = self.postures[index] = arm.chain.frames(q[np.newaxis])
        return found


def evidence_of(wire: NDArray[np.float32], known: Known | None = None) -> Evidence:
    """Widens a chunk and takes its peak once for all rules. Needs at least one number."""
    actions = wire.astype(np.float64)
    return Evidence(actions, float(np.maximum.reduce(np.abs(actions), axis=None)), known)


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


class Clamp(Protocol):
    """Takes away what is too much, without changing what the motion is."""

    @property
    def enforces(self) -> frozenset[str]:
        """The rules that it makes true."""

    def clamp(self, actions: Array, evidence: Evidence) -> NDArray[np.bool_] | None:
        """Brings `actions` within the limits, in place. Returns which steps of the arm became shorter; None: none."""


def passed(rule_id: str) -> RuleResult:
    """The result of an exact check that found nothing. Build it once, not per request."""
    return RuleResult(id=rule_id, status=RuleStatus.PASSED, score=1.0)


def not_evaluated(rule_id: str, reason: NotEvaluated) -> RuleResult:
    """The result of a rule that could not look. Build it once, not per request."""
    return RuleResult(id=rule_id, status=RuleStatus.NOT_EVALUATED, score=None, reason=reason)


def warned(
    rule_id: str, utilisation: float, *, value: float, limit: float, unit: str, at: tuple[int, int | None] | None, message: str
) -> RuleResult:
    """The result of a rule that only warns: never below half, and a warning exactly when the limit is broken."""
    is_over = utilisation > 1.0
    return RuleResult(
        id=rule_id,
        status=RuleStatus.WARNED if is_over else RuleStatus.PASSED,
        score=max(0.5, ramp(utilisation, REJECT_POINT)),
        value=value,
        limit=limit,
        unit=unit,
        at=at if utilisation > WARN_POINT else None,
        message=message if is_over else None,
    )


def truncated(rule_id: str, step: int, steps: int, min_prefix: int, **found: object) -> RuleResult:
    """The result of a path that must end before `step`: refused when fewer than `min_prefix` steps are left of it.

    The score is half the share of the chunk that is left: never above what a broken limit may score.
    """
    is_refused = step < min_prefix
    return RuleResult(
        id=rule_id,
        status=RuleStatus.REJECTED if is_refused else RuleStatus.TRUNCATED,
        score=0.0 if is_refused else 0.5 * step / steps,
        at=(step, None),
        **found,  # type: ignore[arg-type] # value, limit, unit and message, as RuleResult names them
    )


def worst_of(results: Sequence[RuleResult]) -> RuleResult:
    """Of one rule's results for several arms, the one to report: the lowest score, and a look before no look."""
    return min(results, key=lambda result: 2.0 if result.score is None else result.score)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerArm:
    """One rule applied to each arm; the worst is reported."""

    parts: tuple[Rule, ...]

    @property
    def id(self) -> str:
        """The parts' common id."""
        return self.parts[0].id

    @property
    def severity(self) -> Severity:
        """The parts' common severity."""
        return self.parts[0].severity

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """All parts are looked at."""
        return worst_of([part.evaluate(evidence) for part in self.parts])


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Stands in for a rule that can never look in this guard: it says why and looks at nothing."""

    severity: ClassVar[Severity] = Severity.WARN
    result: RuleResult

    @property
    def id(self) -> str:
        """The id of the rule it stands in for."""
        return self.result.id

    def evaluate(self, evidence: Evidence) -> RuleResult:  # noqa: ARG002 -- the shape of a rule
        """Always the same."""
        return self.result


def standing(rule_id: str, reason: NotEvaluated) -> Standing:
    """The stand-in for this rule."""
    return Standing(result=not_evaluated(rule_id, reason))
