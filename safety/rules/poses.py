"""B1, B2, B6 and D1 for absolute end-effector poses: how far from pose to pose, and whether a rotation is one.

A translation that is too fast is followed at the allowed speed. A rotation that is too fast is refused: half-way rotations would
be ours, not the policy's. Euler triples have no stated order, so the sum of their changes counts, the most they can turn.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.action_space import RotationForm
from safety.rules.arm import Arm
from safety.rules.cartesian import AIM, ROUNDING_EXCESS, norms
from safety.rules.joint_clamp import FLOAT32
from safety.rules.names import B1, B2, B6, D1
from safety.rules.reference import reference
from safety.rules.rule import Evidence, Severity, not_evaluated, passed
from safety.score import judge, ramp, rounded_value
from safety.verdict import NotEvaluated, RuleResult, RuleStatus

Array = NDArray[np.float64]
UNIT_TOLERANCE = 1e-3
SPREAD_MIN = 1e-3  # sine between the two columns of a 6-D rotation


def speed_of_travel(rule_id: str, arm: Arm, distances: Array, limit: float, first_step: int) -> RuleResult:
    """The fastest of the distances (S,) in m, one step each."""
    index = int(distances.argmax())
    value, step = float(distances[index]) * arm.control_hz, index + first_step
    status, score = judge(value, limit)
    shown = rounded_value(value, limit)
    message = f"step {step} would move the end effector at {shown:.12g} m/s; the limit is {limit:.12g}"
    return RuleResult(
        id=rule_id,
        status=status,
        score=score,
        value=value,
        limit=limit,
        unit="m/s",
        at=(step, None),
        message=message if value > limit else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoseSpeed:
    """B1: from position to position within the chunk. D1 looks at the way to the first."""

    id: ClassVar[str] = B1
    alone: ClassVar[RuleResult] = not_evaluated(B1, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.CLAMP
    arm: Arm
    limit: float

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """A single pose has no speed."""
        points = evidence.actions[:, self.arm.group.translation]
        if len(points) == 1:
            return self.alone
        return speed_of_travel(self.id, self.arm, norms(points[1:] - points[:-1]), self.limit, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoseGap:
    """D1: from where the end effector is to the first position."""

    id: ClassVar[str] = D1
    unknown: ClassVar[RuleResult] = not_evaluated(D1, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.CLAMP
    arm: Arm
    index: int
    limit: float

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Needs a position; joints would give the flange, not the tool that the poses are about."""
        start = reference(evidence.known, self.arm, self.index)
        if start is None:
            return self.unknown
        gap = norms(evidence.actions[:1, self.arm.group.translation] - start)
        return speed_of_travel(self.id, self.arm, gap, self.limit, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoseClamp:
    """Makes B1 and D1 true: goes for each position in turn, in a straight line, no faster than allowed."""

    enforces = frozenset({B1, D1})
    arm: Arm
    index: int
    limit: float

    def clamp(self, actions: Array, evidence: Evidence) -> NDArray[np.bool_]:
        """In place. Returns which steps are shorter than asked for."""
        points = actions[:, self.arm.group.translation]
        start = reference(evidence.known, self.arm, self.index)
        at = points[0].copy() if start is None else start
        shortened = np.zeros(len(points), dtype=np.bool_)
        for step in range(1 if start is None else 0, len(points)):
            move = points[step] - at
            asked = float(np.sqrt(move @ move))
            if asked * self.arm.control_hz > self.limit:
                rounding = 2.0 * FLOAT32 * float(np.abs(at).max() + np.abs(move).max())
                room = max(self.limit * AIM / self.arm.control_hz - rounding, 0.0)
                shortened[step] = asked > room * ROUNDING_EXCESS + rounding
                points[step] = (at + move * (room / asked)).astype(np.float32)
            at = points[step].copy()
        return shortened


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoseTurn:
    """B2: the angle from each rotation to the next, times steps per second. Refused above the limit."""

    id: ClassVar[str] = B2
    alone: ClassVar[RuleResult] = not_evaluated(B2, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.REJECT
    arm: Arm
    form: RotationForm
    limit: float

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """A single pose does not turn."""
        columns = evidence.actions[:, self.arm.group.rotation]
        if len(columns) == 1:
            return self.alone
        angles = turned(columns, self.form)
        index = int(angles.argmax())
        value = float(angles[index]) * self.arm.control_hz
        is_over = value > self.limit
        score = 0.0 if is_over else max(ramp(value / self.limit, reject_point=1.0), 0.5)
        within = RuleStatus.PASSED if score == 1.0 else RuleStatus.WARNED
        shown = rounded_value(value, self.limit)
        message = f"step {index + 1} would turn the end effector at {shown:.12g} rad/s; the limit is {self.limit:.12g}"
        return RuleResult(
            id=self.id,
            status=RuleStatus.REJECTED if is_over else within,
            score=score,
            value=value,
            limit=self.limit,
            unit="rad/s",
            at=(index + 1, None),
            message=message if is_over else None,
        )


def turned(columns: Array, form: RotationForm) -> Array:
    """(T − 1,) angle in rad from each row's rotation to the next one's; for Euler triples the most it can be."""
    if form is RotationForm.EULER:
        return np.asarray(np.abs(columns[1:] - columns[:-1]).sum(axis=1))
    matrices = _matrices(columns, form)
    between = matrices[:-1].swapaxes(1, 2) @ matrices[1:]
    skew = np.stack(
        [between[:, 2, 1] - between[:, 1, 2], between[:, 0, 2] - between[:, 2, 0], between[:, 1, 0] - between[:, 0, 1]]
    )
    angles: Array = np.arctan2(np.sqrt((skew**2).sum(axis=0)), np.trace(between, axis1=1, axis2=2) - 1.0)
    return angles


def _matrices(columns: Array, form: RotationForm) -> Array:
    if form is RotationForm.SIX_D:
        x = columns[:, :3] / _lengths(columns[:, :3])
        y = columns[:, 3:] - np.vecdot(x, columns[:, 3:])[:, np.newaxis] * x
        y /= _lengths(y)
        return np.stack([x, y, np.cross(x, y)], axis=2)
    if form is RotationForm.ROTATION_VECTOR:
        angles = norms(columns)
        halves = 0.5 * angles[:, np.newaxis]
        quaternions = np.concatenate([np.cos(halves), 0.5 * np.sinc(halves / np.pi) * columns], axis=1)
    else:
        quaternions = columns if form is RotationForm.QUATERNION_WXYZ else columns[:, [3, 0, 1, 2]]
        quaternions = quaternions / _lengths(quaternions)
    w, x, y, z = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _lengths(vectors: Array) -> Array:
    """Never 0, so that B6 may report what B2 divides by."""
    return np.maximum(norms(vectors), 1e-30)[:, np.newaxis]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RotationValid:
    """B6: a quaternion has length 1, and the two columns of a 6-D rotation span a plane."""

    id: ClassVar[str] = B6
    ok: ClassVar[RuleResult] = passed(B6)
    severity: ClassVar[Severity] = Severity.REJECT
    arm: Arm
    form: RotationForm

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Rotation vectors and Euler triples are rotations whatever their numbers."""
        columns = evidence.actions[:, self.arm.group.rotation]
        if self.form is RotationForm.SIX_D:
            x, y = columns[:, :3] / _lengths(columns[:, :3]), columns[:, 3:] / _lengths(columns[:, 3:])
            spread = norms(np.cross(x, y))
            step = int(spread.argmin())
            is_valid, value, limit = spread[step] >= SPREAD_MIN, float(spread[step]), SPREAD_MIN
        else:
            errors = np.abs(norms(columns) - 1.0)
            step = int(errors.argmax())
            is_valid, value, limit = errors[step] <= UNIT_TOLERANCE, float(errors[step]), UNIT_TOLERANCE
        if is_valid:
            return self.ok
        message = f"the rotation at step {step} is none"
        return RuleResult(
            id=self.id, status=RuleStatus.REJECTED, score=0.0, value=value, limit=limit, at=(step, None), message=message
        )
