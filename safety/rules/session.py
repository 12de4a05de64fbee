"""D8, E1, E2, E4, E5 and E6: what the previous chunk of the session tells. Without it none of them looks, and none guesses.

Knows the previous chunk as `memory.py` kept it, and where the robot was in it when the new observation was taken.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind, ActionSpace
from safety.calibration import Threshold
from safety.context import PreviousChunk
from safety.known import Known
from safety.overlap import disagreement
from safety.rules.arm import Arm
from safety.rules.names import D8, E1, E2, E4, E5, E6
from safety.rules.reference import last_command
from safety.rules.rule import Evidence, Severity, not_evaluated, passed, warned
from safety.verdict import NotEvaluated, RuleResult, RuleStatus

Array = NDArray[np.float64]
TRACKING_RAD, TRACKING_M = 0.2, 0.05  # the DROID stack's safety margins
PERSISTENT = 3  # requests in a row
FROZEN_STEPS = 5  # of commanded motion before a picture that does not change is odd
STILL = 1e-6
RATE_MAX = 2.0


def session_of(known: Known | None) -> tuple[Known, PreviousChunk] | None:
    """The context and the previous chunk, when both are there."""
    return None if known is None or known.previous is None else (known, known.previous)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """E5: looked at before anything else (`known.read`); here it only says so."""

    id: ClassVar[str] = E5
    ok: ClassVar[RuleResult] = passed(E5)
    unknown: ClassVar[RuleResult] = not_evaluated(E5, NotEvaluated.NO_SESSION)
    severity: ClassVar[Severity] = Severity.REJECT

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Evaluated when this request and the previous one both had a `seq`."""
        session = session_of(evidence.known)
        if session is None or session[0].context.seq is None or session[1].seq is None:
            return self.unknown
        return self.ok


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackingError:
    """D8: how far the robot is from where the executed part of the previous chunk sent it. Refused the third time in a row."""

    id: ClassVar[str] = D8
    no_state: ClassVar[RuleResult] = not_evaluated(D8, NotEvaluated.NO_STATE)
    no_session: ClassVar[RuleResult] = not_evaluated(D8, NotEvaluated.NO_SESSION)
    severity: ClassVar[Severity] = Severity.REJECT
    arm: Arm
    index: int

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """In joints where the actions are about joints, else in the end effector's position."""
        session = session_of(evidence.known)
        if session is None or session[0].executed_index is None or session[0].executed_index < 0:
            return self.no_session
        state = session[0].arms[self.index]
        is_joints = self.arm.is_joints
        measured = state.q if is_joints else state.position
        expected = self._expected(*session)
        if measured is None or expected is None:
            return self.no_state
        apart = np.abs(measured - expected)
        value = float(apart.max()) if is_joints else float(np.sqrt(apart @ apart))
        limit = TRACKING_RAD if is_joints else TRACKING_M
        return self._result(value, limit, "rad" if is_joints else "m", session[1].tracking_count)

    def _expected(self, known: Known, previous: PreviousChunk) -> Array | None:
        """Where the executed commands lead, from the state that the previous request reported."""
        arm, executed = self.arm, known.executed_index or 0
        rows = previous.actions[: executed + 1].astype(np.float64)
        if arm.kind is ActionKind.JOINT_ABS:
            return np.asarray(rows[-1, arm.group.arm])
        if arm.kind is ActionKind.EE_ABS:
            return np.asarray(rows[-1, arm.group.translation])
        if arm.kind in (ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL):
            start, width, columns = previous.q, arm.joints, rows[:, arm.group.arm]
        else:
            start, width, columns = previous.ee_position, 3, rows[:, arm.group.translation]
        if start is None or len(start) < (self.index + 1) * width:
            return None
        moved = columns.sum(axis=0) / (arm.control_hz if arm.kind is ActionKind.JOINT_VEL else 1.0)
        return np.asarray(start[self.index * width : (self.index + 1) * width] + moved)

    def _result(self, value: float, limit: float, unit: str, times_before: int) -> RuleResult:
        message = f"the robot is {value:.4g} {unit} from where it was sent; more than {limit:g} is odd"
        if value > limit and times_before + 1 >= PERSISTENT:
            message = f"{message}, and it is so for the {times_before + 1}th request in a row"
            return RuleResult(
                id=self.id, status=RuleStatus.REJECTED, score=0.0, value=value, limit=limit, unit=unit, message=message
            )
        return warned(self.id, value / limit, value=value, limit=limit, unit=unit, at=None, message=message)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seam:
    """E1: the jump of velocity between the executed end of the previous chunk and the head of this one, in largest steps."""

    id: ClassVar[str] = E1
    unknown: ClassVar[RuleResult] = not_evaluated(E1, NotEvaluated.NO_SESSION)
    severity: ClassVar[Severity] = Severity.WARN
    arm: Arm
    steps: Array  # the largest step per column of the arm

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Absolute commands need two executed steps of the previous chunk, deltas and velocities one."""
        last = last_command(evidence.known, self.arm)
        session = session_of(evidence.known)
        if last is None or session is None:
            return self.unknown
        head = evidence.actions[0, self.arm.group.arm]
        jump = head - last
        if self.arm.kind in (ActionKind.JOINT_ABS, ActionKind.EE_ABS):
            executed = session[0].executed_index or 0
            if executed < 1:
                return self.unknown
            jump = jump - (last - session[1].actions[executed - 1, self.arm.group.arm])
        shares = np.abs(jump[: len(self.steps)]) / self.steps
        column = int(shares.argmax())
        value = float(shares[column])
        message = f"the new chunk begins {value:.4g} largest steps faster or slower than the old one ended"
        at = (0, self.arm.group.start + column)
        return warned(self.id, value, value=value, limit=1.0, unit="largest steps", at=at, message=message)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkConsistency:
    """E2: how much this chunk disagrees with what was left of the previous one. Only informs until it is calibrated."""

    id: ClassVar[str] = E2
    unknown: ClassVar[RuleResult] = not_evaluated(E2, NotEvaluated.NO_SESSION)
    alone: ClassVar[RuleResult] = not_evaluated(E2, NotEvaluated.NOT_APPLICABLE)
    severity: ClassVar[Severity] = Severity.WARN
    scale: Array
    threshold: Threshold | None

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Nothing is left to disagree with when the previous chunk was executed to its end."""
        session = session_of(evidence.known)
        if session is None or session[0].executed_index is None:
            return self.unknown
        value = disagreement(session[1].actions, evidence.actions, session[0].executed_index, self.scale)
        if value is None:
            return self.alone
        return informed_or_warned(
            self.id, value, self.threshold, "largest steps", "the chunk disagrees with the rest of the previous one"
        )


def informed_or_warned(rule_id: str, value: float, threshold: Threshold | None, unit: str, what: str) -> RuleResult:
    """With a threshold a warning like any other; without one, the number alone."""
    if threshold is None:
        return RuleResult(id=rule_id, status=RuleStatus.INFORMED, score=None, value=value, unit=unit)
    limit = max(threshold.value, 1e-12)
    message = f"{what}: {value:.4g}, above the calibrated {limit:.4g}"
    return warned(rule_id, value / limit, value=value, limit=limit, unit=unit, at=None, message=message)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObservationFrozen:
    """E4: the very same pictures and joints, three requests in a row, although motion was commanded."""

    id: ClassVar[str] = E4
    unknown: ClassVar[RuleResult] = not_evaluated(E4, NotEvaluated.NO_SESSION)
    ok: ClassVar[RuleResult] = passed(E4)
    severity: ClassVar[Severity] = Severity.WARN
    columns: NDArray[np.intp]  # that move an arm
    is_absolute: bool

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Needs the hash of this request's pictures and of the previous one's."""
        session = session_of(evidence.known)
        if session is None or session[0].context.image_hash is None or session[1].image_hash is None:
            return self.unknown
        if not is_frozen(*session):
            return self.ok
        requests, steps = session[1].frozen_count + 2, session[1].frozen_steps + self.moved_steps(*session)
        if requests < PERSISTENT or steps <= FROZEN_STEPS:
            return self.ok
        message = f"{requests} requests with the same observation while {steps} steps of motion were commanded"
        return warned(
            self.id,
            requests / (PERSISTENT - 1),
            value=float(requests),
            limit=PERSISTENT - 1.0,
            unit="requests",
            at=None,
            message=message,
        )

    def moved_steps(self, known: Known, previous: PreviousChunk) -> int:
        """How many of the previous chunk's executed steps (all, if that is not known) are not standing still."""
        executed = len(previous.actions) - 1 if known.executed_index is None else known.executed_index
        rows = previous.actions[: executed + 1, self.columns]
        if self.is_absolute:
            rows = np.diff(rows, axis=0)
        return int(np.count_nonzero((np.abs(rows) > STILL).any(axis=1)))


def is_frozen(known: Known, previous: PreviousChunk) -> bool:
    """The same pictures, and the same joints where both requests reported them."""
    state = known.context.state
    q = None if state is None or state.q is None else tuple(float(number) for number in state.q)
    return known.context.image_hash == previous.image_hash and (q is None) == (previous.q is None) and q == previous.q


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RateMismatch:
    """E6: the rate at which steps are executed against the policy's: within a factor of two, or every speed here is wrong."""

    id: ClassVar[str] = E6
    no_session: ClassVar[RuleResult] = not_evaluated(E6, NotEvaluated.NO_SESSION)
    no_time: ClassVar[RuleResult] = not_evaluated(E6, NotEvaluated.NO_TIMESTAMP)
    severity: ClassVar[Severity] = Severity.WARN
    control_hz: float

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """The worse of what the client declares and what the executed steps since the previous answer show."""
        known = evidence.known
        rates = [] if known is None else [rate for rate in (_declared(known), _measured(known)) if rate is not None]
        if not rates:
            return self.no_session if session_of(known) is None else self.no_time
        value = max(rates, key=lambda rate: _mismatch(rate, self.control_hz))
        share = _mismatch(value, self.control_hz)
        message = f"steps are executed at {value:.4g} Hz, the policy was made for {self.control_hz:g} Hz"
        limit = self.control_hz * RATE_MAX if value >= self.control_hz else self.control_hz / RATE_MAX
        is_odd = share > RATE_MAX
        return RuleResult(
            id=self.id,
            status=RuleStatus.WARNED if is_odd else RuleStatus.PASSED,
            score=0.5 if is_odd else 1.0,
            value=value,
            limit=limit,
            unit="Hz",
            message=message if is_odd else None,
        )


def _mismatch(rate: float, wanted: float) -> float:
    return max(rate / wanted, wanted / rate)


def _declared(known: Known) -> float | None:
    hz = known.context.control_hz
    is_number = isinstance(hz, int | float) and not isinstance(hz, bool)
    return float(hz) if is_number and hz is not None and 1e-3 <= hz <= 1e6 else None


def _measured(known: Known) -> float | None:
    previous, now, executed = known.previous, known.context.now_s, known.executed_index
    if previous is None or now is None or executed is None or executed < 0:
        return None
    elapsed = now - previous.sent_at_s
    return (executed + 1) / elapsed if elapsed > 1e-6 else None


def step_scale(space: ActionSpace, arms: tuple[Arm, ...]) -> Array:
    """(D,) the largest allowed step per column: what E1, E2 and calibration measure in. A gripper's is its whole range."""
    scale = np.ones(space.width)
    for arm in arms:
        scale[arm.group.arm] = arm_steps(arm)
    return scale


def arm_steps(arm: Arm) -> Array:
    """The largest step of one arm's columns; 1 where there is no limit or no unit."""
    hz, count = arm.control_hz, arm.group.stop - arm.group.start
    if arm.kind is ActionKind.JOINT_VEL:
        return arm.speed
    if arm.kind in (ActionKind.JOINT_ABS, ActionKind.JOINT_DELTA):
        return arm.speed / hz
    linear = 1.0 if arm.linear_speed_m_per_s is None else arm.linear_speed_m_per_s / hz
    angular = 1.0 if arm.angular_speed_rad_per_s is None or count != 6 else arm.angular_speed_rad_per_s / hz
    return np.array([linear] * 3 + [angular] * (count - 3))
