"""D3 and D5: what the joints would do, as far as a Jacobian tells. Approximate, so they only warn.

D3 turns end-effector deltas into joint motion by damped least squares from the reported joints; D5 is the condition of the
Jacobian where the chunk leads. Knows no request beyond its evidence.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.kinematics import Chain, Frames, jacobian
from safety.rules.arm import Arm, framed
from safety.rules.names import D3, D5
from safety.rules.rule import Evidence, Severity, not_evaluated, warned
from safety.verdict import NotEvaluated, RuleResult

Array = NDArray[np.float64]
DAMPING = 0.05
RELINEARISED = 4  # times per chunk
CONDITION_WARN, CONDITION_MAX = 17.0, 30.0  # MoveIt Servo's lower and upper singularity thresholds
WAYPOINTS = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointLimitPredicted:
    """D3: 1 is the window of B5; the score falls where a predicted joint comes near an end and stays at half beyond."""

    id: ClassVar[str] = D3
    unknown: ClassVar[RuleResult] = not_evaluated(D3, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.WARN
    arm: Arm
    index: int
    chain: Chain

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Needs the joints; a position alone does not tell them."""
        state = None if evidence.known is None else evidence.known.arms[self.index]
        if state is None or state.q is None:
            return self.unknown
        arm = self.arm
        path = predicted(self.chain, state.q, evidence.actions[:, arm.group.arm])
        middle, half = (arm.high + arm.low) / 2, (arm.high - arm.low) / 2
        shares = np.abs(path - middle) / half
        step, joint = divmod(int(shares.argmax()), arm.joints)
        value, share = float(path[step, joint]), float(shares[step, joint])
        limit = float(arm.high[joint] if value > middle[joint] else arm.low[joint])
        message = f"joint {joint + 1} would be near {value:.4g} rad at step {step}, beyond {limit:.12g} (approximate)"
        return warned(self.id, share, value=value, limit=limit, unit="rad", at=(step, None), message=message)


def predicted(chain: Chain, start: Array, deltas: Array) -> Array:
    """(T, n) joints along end-effector deltas (T, 6), by damped least squares, linearised anew a few times."""
    path = np.empty((len(deltas), chain.joints))
    at = start
    for rows in np.array_split(np.arange(len(deltas)), min(RELINEARISED, len(deltas))):
        slope = jacobian(chain.frames(at[np.newaxis]))[0]
        gain = slope.T @ np.linalg.inv(slope @ slope.T + DAMPING**2 * np.eye(6))
        path[rows] = at + np.cumsum(deltas[rows], axis=0) @ gain.T
        at = path[rows[-1]]
    return path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Singularity:
    """D5: the Jacobian's largest over its smallest singular value; a warning from 17 on, MoveIt Servo's lower threshold."""

    id: ClassVar[str] = D5
    unknown: ClassVar[RuleResult] = not_evaluated(D5, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.WARN
    arm: Arm
    index: int
    chain: Chain

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Along a joint chunk at ten waypoints; for end-effector actions at the reported joints."""
        frames, steps = self._frames(evidence)
        if frames is None:
            return self.unknown
        conditions = condition(jacobian(frames))
        worst = int(conditions.argmax())
        value, step = min(float(conditions[worst]), 1e9), int(steps[worst])
        message = f"the arm is near a singularity at step {step}: its condition is {value:.4g}, above {CONDITION_WARN:g}"
        share = value / CONDITION_WARN
        return warned(
            self.id, share, value=value, limit=CONDITION_WARN, unit="condition number", at=(step, None), message=message
        )

    def _frames(self, evidence: Evidence) -> tuple[Frames | None, NDArray[np.intp]]:
        if self.arm.kind in (ActionKind.JOINT_ABS, ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL):
            track = evidence.track(self.arm, self.index)
            frames = framed(self.arm, track)
            if frames is None:
                return None, np.zeros(1, dtype=np.intp)
            first = 1 if track.has_start else 0
            rows = waypoints(len(frames.positions) - first) + first
            return Frames(frames.rotations[rows], frames.positions[rows]), rows - first
        state = None if evidence.known is None else evidence.known.arms[self.index]
        if state is None or state.q is None:
            return None, np.zeros(1, dtype=np.intp)
        return self.chain.frames(state.q[np.newaxis]), np.zeros(1, dtype=np.intp)


def waypoints(steps: int) -> NDArray[np.intp]:
    """Some ten steps of a chunk, evenly, with its last."""
    return np.unique(np.linspace(0, steps - 1, min(steps, WAYPOINTS + 1)).round().astype(np.intp))


def condition(jacobians: Array) -> Array:
    """(T,) condition of (T, 6, n) Jacobians; infinite at a singularity, also of arms with fewer than six joints."""
    values = np.linalg.svd(jacobians, compute_uv=False)
    smallest = values[:, -1]
    conditions: Array = np.divide(values[:, 0], smallest, out=np.full(len(values), np.inf), where=smallest > 0)
    return conditions
