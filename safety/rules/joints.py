"""B3, B5, C1, D1 and D4: how fast joints are asked to turn, where to, and whether they could still stop before their ends.

Per joint, in rad and rad/s. Enforcing them is one thing, `joint_clamp.py`; here is only the looking.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.rules.arm import Arm
from safety.rules.names import B5, C1, D1, D4
from safety.rules.reference import reference
from safety.rules.rule import Evidence, Severity, not_evaluated, passed
from safety.score import BELOW_HALF, judge, ramp, rounded_value
from safety.verdict import NotEvaluated, RuleResult, RuleStatus

Array = NDArray[np.float64]
OUTSIDE_MAX = 0.2  # of half a joint's range: farther outside is refused, not put to the end
FAINTEST = 1e-3  # the lowest score of a limit that is always clamped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointSpeed:
    """B3 (deltas, velocities) and C1 (positions: from step to step). The joint nearest to its limit decides."""

    severity: ClassVar[Severity] = Severity.CLAMP
    id: str
    alone: ClassVar[RuleResult] = not_evaluated(C1, NotEvaluated.NO_STATE)
    arm: Arm

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """A chunk of one position has no step to look at; where the robot is, D1 looks."""
        columns = evidence.actions[:, self.arm.group.arm]
        if self.id == C1:
            if len(columns) == 1:
                return self.alone
            speeds = np.abs(columns[1:] - columns[:-1])
        else:
            speeds = np.abs(columns)
        if self.arm.kind is not ActionKind.JOINT_VEL:
            speeds *= self.arm.control_hz
        return speed_result(self.id, self.arm, speeds, 1 if self.id == C1 else 0)


def speed_result(rule_id: str, arm: Arm, speeds: Array, first_step: int) -> RuleResult:
    """`speeds` (S, n) against each joint's limit; row 0 belongs to `first_step`."""
    worst = int((speeds / arm.speed).argmax())
    row, joint = divmod(worst, arm.joints)
    value, limit, step = float(speeds[row, joint]), float(arm.speed[joint]), row + first_step
    status, score = judge(value, limit)
    shown = rounded_value(value, limit)
    message = f"joint {joint + 1} would move at {shown:.12g} rad/s at step {step}; the limit is {limit:.12g}"
    return RuleResult(
        id=rule_id,
        status=status,
        score=score,
        value=value,
        limit=limit,
        unit="rad/s",
        at=(step, arm.group.start + joint),
        message=message if value > limit else None,
    )


def beyond(path: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """(S, n) how far each row is below `low` and above `high`, in rad; negative where it is not."""
    return low - path, path - high


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointPosition:
    """B5: within the limits less the margin. From outside the margin, only the way back in is open."""

    id: ClassVar[str] = B5
    ok: ClassVar[RuleResult] = passed(B5)
    unknown: ClassVar[RuleResult] = not_evaluated(B5, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.CLAMP
    arm: Arm
    index: int

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Deltas and velocities have no position without a state."""
        arm = self.arm
        if arm.kind is ActionKind.JOINT_ABS:
            path, start = evidence.actions[:, arm.group.arm], reference(evidence.known, arm, self.index)
        else:
            track = evidence.track(arm, self.index)
            if track.joints is None:
                return self.unknown
            path, start = track.joints[1:], track.joints[0]
        if (path >= arm.low).all() and (path <= arm.high).all():
            return self.ok
        below, above = beyond(path, arm.low, arm.high)
        if start is not None:
            below, above = (
                _outward(below, arm.low - np.maximum(start, arm.hard_low)),
                _outward(above, np.minimum(start, arm.hard_high) - arm.high),
            )
        outside = np.maximum(below, above) / (OUTSIDE_MAX * 0.5 * (arm.high - arm.low))
        worst = int(outside.argmax())
        step, joint = divmod(worst, arm.joints)
        return self.ok if outside[step, joint] <= 0 else self._broken(float(outside[step, joint]), path, step, joint)

    def _broken(self, share: float, path: Array, step: int, joint: int) -> RuleResult:
        arm = self.arm
        value = float(path[step, joint])
        limit = float(arm.low[joint] if value < arm.low[joint] else arm.high[joint])
        is_refused = share > 1.0
        message = f"step {step} takes joint {joint + 1} to {rounded_value(value, limit):.12g} rad; the limit is {limit:.6g}"
        return RuleResult(
            id=self.id,
            status=RuleStatus.REJECTED if is_refused else RuleStatus.CLAMPED,
            score=0.0 if is_refused else min(0.5 * (1.0 - 0.5 * share), BELOW_HALF),
            value=value,
            limit=limit,
            unit="rad",
            at=(step, arm.group.start + joint),
            message=message,
        )


def _outward(excess: Array, start: Array) -> Array:
    """The excess that counts when the arm already stood outside: what is farther out than it has been before."""
    seen = np.minimum.accumulate(np.concatenate([start[np.newaxis], excess[:-1]]), axis=0)
    return np.where(excess > np.maximum(seen, 0.0), excess, -1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartGap:
    """D1 for joint positions: from where the arm stands to the first target, in one step, no faster than a joint may turn."""

    id: ClassVar[str] = D1
    unknown: ClassVar[RuleResult] = not_evaluated(D1, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.CLAMP
    arm: Arm
    index: int

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """No wrapping of full turns: a joint that is a turn away has to turn."""
        start = reference(evidence.known, self.arm, self.index)
        if start is None:
            return self.unknown
        gap = np.abs(evidence.actions[:1, self.arm.group.arm] - start) * self.arm.control_hz
        return speed_result(self.id, self.arm, gap, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoppingRoom:
    """D4: |v| ≤ √(2 · braking · room) − offset towards a joint's end, `room` being what is left behind the step."""

    id: ClassVar[str] = D4
    unknown: ClassVar[RuleResult] = not_evaluated(D4, NotEvaluated.NO_STATE)
    ok: ClassVar[RuleResult] = passed(D4)
    severity: ClassVar[Severity] = Severity.CLAMP
    arm: Arm
    index: int
    braking: Array

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Without a state, deltas are nowhere, and a chunk's first position has no speed."""
        arm = self.arm
        if arm.kind is ActionKind.JOINT_ABS:
            path, start = evidence.actions[:, arm.group.arm], reference(evidence.known, arm, self.index)
            if start is not None:
                path = np.concatenate([start[np.newaxis], path])
        else:
            start = path = evidence.track(arm, self.index).joints  # type: ignore[assignment] # None is looked for below
        if path is None or len(path) == 1:
            return self.unknown
        moves = (path[1:] - path[:-1]) * arm.control_hz
        room = np.where(moves > 0, arm.brake_high - path[1:], path[1:] - arm.brake_low)
        allowed = np.maximum(np.sqrt(2.0 * self.braking * np.maximum(room, 0.0)) - arm.braking_offset, 0.0)
        speeds = np.abs(moves)
        over = speeds > allowed
        if not over.any():
            return self.ok
        excess = np.where(over, speeds - allowed, -1.0)
        row, joint = divmod(int(excess.argmax()), arm.joints)
        return self._broken(float(speeds[row, joint]), float(allowed[row, joint]), row + (0 if start is not None else 1), joint)

    def _broken(self, value: float, limit: float, step: int, joint: int) -> RuleResult:
        share = value / limit if limit > 0 else np.inf
        message = f"joint {joint + 1} would be at {value:.4g} rad/s at step {step}, too fast to stop before its end ({limit:.4g})"
        return RuleResult(
            id=self.id,
            status=RuleStatus.CLAMPED,
            score=min(max(ramp(share), FAINTEST), BELOW_HALF),
            value=value,
            limit=limit,
            unit="rad/s",
            at=(step, self.arm.group.start + joint),
            message=message,
        )
