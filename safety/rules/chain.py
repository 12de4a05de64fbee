"""D3 and D5: what the joints would do, as far as a Jacobian tells. Approximate, so they only warn.

D3 turns end-effector deltas into joint motion by damped least squares from the reported joints; D5 is the condition of the
Jacobian where the chunk leads. Knows no request beyond its evidence.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.kinematics import Chain, Frames, jacobian
from safety.rules.arm import Arm, framed
from safety.rules.names import D3, D5
from safety.rules.rule import Evidence, Severity, not_evaluated, warned
from safety.verdict import NotEvaluated, RuleResult

Array = NDArray[np.float64]
DAMPING = 0.05
DAMPED = DAMPING**2 * np.eye(6)
RELINEARISED = 4  # times per chunk
CONDITION_WARN, CONDITION_MAX = 17.0, 30.0  # MoveIt Servo's lower and upper singularity thresholds
WAYPOINTS = 10
SINGULAR = 1e6  # from here on it is rounding that counts
SAME = 1.0 - 1e-9


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
        path = predicted(self.chain, state.q, evidence.actions[:, arm.group.arm], evidence.posture(arm, self.index))
        middle, half = (arm.high + arm.low) / 2, (arm.high - arm.low) / 2
        shares = np.abs(path - middle) / half
        step, joint = divmod(int(shares.argmax()), arm.joints)
        value, share = float(path[step, joint]), float(shares[step, joint])
        limit = float(arm.high[joint] if value > middle[joint] else arm.low[joint])
        message = f"joint {joint + 1} would be near {value:.4g} rad at step {step}, beyond {limit:.12g} (approximate)"
        return warned(self.id, share, value=value, limit=limit, unit="rad", at=(step, None), message=message)


def predicted(chain: Chain, start: Array, deltas: Array, posture: Frames | None = None) -> Array:
    """(T, n) joints along end-effector deltas (T, 6), by damped least squares, linearised anew a few times.

    `posture` are the frames at `start`, where they are known already.
    """
    count = len(deltas)
    path = np.empty((count, chain.joints))
    at, parts = start, min(RELINEARISED, count)
    for part in range(parts):
        first, last = count * part // parts, count * (part + 1) // parts
        frames = chain.frames(at[np.newaxis]) if part or posture is None else posture
        slope = jacobian(frames)[0]
        gain = np.linalg.solve(slope @ slope.T + DAMPED, slope)  # (6, n)
        path[first:last] = at + np.add.accumulate(deltas[first:last], axis=0) @ gain
        at = path[last - 1]
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
        worst = int((conditions >= conditions.max() * SAME).argmax())  # the first of equals, whatever the last digit says
        value, step = min(float(conditions[worst]), SINGULAR), int(steps[worst])
        message = f"the arm is near a singularity at step {step}: its condition is {value:.4g}, above {CONDITION_WARN:g}"
        share = value / CONDITION_WARN
        return warned(
            self.id, share, value=value, limit=CONDITION_WARN, unit="condition number", at=(step, None), message=message
        )

    def _frames(self, evidence: Evidence) -> tuple[Frames | None, NDArray[np.intp]]:
        if self.arm.is_joints:
            track = evidence.track(self.arm, self.index)
            frames = framed(self.arm, track)
            if frames is None:
                return None, np.zeros(1, dtype=np.intp)
            first = 1 if track.has_start else 0
            rows = waypoints(len(frames.positions) - first) + first
            return Frames(frames.rotations[rows], frames.positions[rows]), rows - first
        return evidence.posture(self.arm, self.index), np.zeros(1, dtype=np.intp)


@lru_cache(maxsize=256)  # chunks have at most 200 steps
def waypoints(steps: int) -> NDArray[np.intp]:
    """Some ten steps of a chunk, evenly, with its last. Read-only."""
    rows = np.unique(np.linspace(0, steps - 1, min(steps, WAYPOINTS + 1)).round().astype(np.intp))
    rows.flags.writeable = False
    return rows


def condition(jacobians: Array) -> Array:
    """(T,) condition of (T, 6, n) Jacobians; infinite at a singularity. Arms with fewer than six joints: of what they can do.

    From the eigenvalues of the smaller square, which cost less than singular values and are exact to 1e-9 far beyond all limits.
    """
    turned = jacobians.transpose(0, 2, 1)
    squares = np.linalg.eigvalsh(jacobians @ turned if jacobians.shape[2] >= 6 else turned @ jacobians)
    smallest, largest = squares[:, 0], squares[:, -1]
    is_regular = smallest * SINGULAR**2 > largest
    conditions: Array = np.sqrt(np.divide(largest, smallest, out=np.full(len(squares), np.inf), where=is_regular))
    return conditions
