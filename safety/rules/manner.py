"""C2 to C6: how a chunk moves. Accelerations, jerks, back and forth, a flapping gripper, numbers stuck at their ends: warnings.

At 5 to 50 Hz these say little for sure (10 rad/s² is 4 mrad from step to step at 50 Hz), so none of them changes a motion.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.rules.arm import Arm
from safety.rules.names import C2, C3, C4, C5, C6
from safety.rules.rule import Evidence, Severity, not_evaluated, passed, warned
from safety.score import WARN_POINT
from safety.verdict import NotEvaluated, RuleResult, RuleStatus

Array = NDArray[np.float64]
JERK_HZ_MIN = 50.0
DEADBAND = 0.02  # of the largest allowed step: less is noise, not a change of direction
REVERSALS_MAX = 0.5
CALM = WARN_POINT * REVERSALS_MAX  # up to here the score is 1
CHANGES_MIN = 4  # fewer say nothing about going back and forth
HYSTERESIS = (0.4, 0.6)
CROSSINGS_PER_S_MAX = 2.0
SATURATED_MAX = 0.5
AT_END = 1e-6  # of the column's range


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointAcceleration:
    """C2: the change of joint speed from step to step, times steps per second. Only where a limit is published."""

    id: ClassVar[str] = C2
    alone: ClassVar[RuleResult] = not_evaluated(C2, NotEvaluated.NOT_APPLICABLE)
    severity: ClassVar[Severity] = Severity.WARN
    arm: Arm
    limits: Array

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """The joint nearest to its limit decides."""
        speeds = joint_speeds(self.arm, evidence.actions)
        if len(speeds) < 2:
            return self.alone
        found = np.abs(speeds[1:] - speeds[:-1]) * self.arm.control_hz
        step, joint = divmod(int((found / self.limits).argmax()), self.arm.joints)
        value, limit = float(found[step, joint]), float(self.limits[joint])
        message = f"joint {joint + 1} would accelerate at {value:.4g} rad/s² at step {step + 1}; the limit is {limit:.12g}"
        at = (step + 1, self.arm.group.start + joint)
        return warned(self.id, value / limit, value=value, limit=limit, unit="rad/s²", at=at, message=message)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointJerk:
    """C3: only informs, and only from 50 Hz: slower, the client's interpolator decides the jerk."""

    id: ClassVar[str] = C3
    alone: ClassVar[RuleResult] = not_evaluated(C3, NotEvaluated.NOT_APPLICABLE)
    severity: ClassVar[Severity] = Severity.WARN
    arm: Arm
    limits: Array

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Never a score."""
        hz = self.arm.control_hz
        speeds = joint_speeds(self.arm, evidence.actions)
        if hz < JERK_HZ_MIN or len(speeds) < 3:
            return self.alone
        found = np.abs(speeds[2:] - 2.0 * speeds[1:-1] + speeds[:-2]) * hz * hz
        step, joint = divmod(int((found / self.limits).argmax()), self.arm.joints)
        at, limit = (step + 2, self.arm.group.start + joint), float(self.limits[joint])
        value = float(found[step, joint])
        return RuleResult(id=self.id, status=RuleStatus.INFORMED, score=None, value=value, limit=limit, unit="rad/s³", at=at)


def joint_speeds(arm: Arm, actions: Array) -> Array:
    """(S, n) rad/s that the chunk itself asks for: T of them for deltas and velocities, T − 1 for positions."""
    columns = actions[:, arm.group.arm]
    if arm.kind is ActionKind.JOINT_ABS:
        return (columns[1:] - columns[:-1]) * arm.control_hz
    return columns if arm.kind is ActionKind.JOINT_VEL else columns * arm.control_hz


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Oscillation:
    """C4: the share of consecutive changes that point against each other, of the worst column."""

    id: ClassVar[str] = C4
    ok: ClassVar[RuleResult] = passed(C4)
    alone: ClassVar[RuleResult] = not_evaluated(C4, NotEvaluated.NOT_APPLICABLE)
    severity: ClassVar[Severity] = Severity.WARN
    columns: slice
    is_absolute: bool
    floors: Array  # per column: minus the deadband's square, in its own unit per step

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Products of neighbours show it: clearly negative where the two together are beyond the deadband and turn round."""
        changes = evidence.actions[:, self.columns]
        if self.is_absolute:
            changes = changes[1:] - changes[:-1]
        if len(changes) < CHANGES_MIN:
            return self.alone
        turns = changes[1:] * changes[:-1] < self.floors
        if np.count_nonzero(turns) <= CALM * len(turns):  # so no single column is above that share either
            return self.ok
        counts = np.add.reduce(turns, axis=0).tolist()
        most = max(counts)
        column, value = counts.index(most), most / len(turns)
        message = (
            f"column {column + self.columns.start} turns round in {value:.4g} of its steps; more than {REVERSALS_MAX} is odd"
        )
        at = (0, column + self.columns.start)
        return warned(
            self.id, value / REVERSALS_MAX, value=value, limit=REVERSALS_MAX, unit="share of steps", at=at, message=message
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GripperChatter:
    """C5: how often a second the gripper is told to open and close again, beyond 40 % and 60 % of its range."""

    id: ClassVar[str] = C5
    ok: ClassVar[RuleResult] = passed(C5)
    severity: ClassVar[Severity] = Severity.WARN
    column: int
    low: float
    high: float
    control_hz: float

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """One change is a grasp; only what comes back again flaps."""
        closed, opened = (self.low + share * (self.high - self.low) for share in HYSTERESIS)
        lowest, highest = evidence.ends_of(self.column)
        if lowest >= closed or highest <= opened:
            return self.ok
        side, crossings = 0, 0
        for command in evidence.actions[:, self.column].tolist():
            now = -1 if command < closed else 1 if command > opened else side
            crossings += now * side < 0
            side = now
        value = max(crossings - 1, 0) * self.control_hz / len(evidence.actions)
        message = f"the gripper turns round {value:.4g} times a second; more than {CROSSINGS_PER_S_MAX:g} is odd"
        return warned(
            self.id,
            value / CROSSINGS_PER_S_MAX,
            value=value,
            limit=CROSSINGS_PER_S_MAX,
            unit="1/s",
            at=(0, self.column),
            message=message,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saturation:
    """C6: the share of numbers at the ends of what the policy was trained on, beyond which its decoder cannot go."""

    id: ClassVar[str] = C6
    ok: ClassVar[RuleResult] = passed(C6)
    severity: ClassVar[Severity] = Severity.WARN
    low: Array  # per column
    high: Array
    columns: NDArray[np.intp]  # a gripper is at its ends by nature and is not looked at

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """At an end or beyond."""
        room = AT_END * (self.high - self.low)
        actions = evidence.actions[:, self.columns]
        stuck = (actions <= self.low + room) | (actions >= self.high - room)
        value = float(np.count_nonzero(stuck)) / stuck.size
        if value == 0.0:
            return self.ok
        message = f"{value:.4g} of the numbers are at the ends of the training range; more than {SATURATED_MAX} is odd"
        return warned(
            self.id, value / SATURATED_MAX, value=value, limit=SATURATED_MAX, unit="share of numbers", at=None, message=message
        )
