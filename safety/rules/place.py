"""D2: the end effector's way stays in box, half-spaces and reach, and out of the keep-outs; else the chunk ends before.

Points are in the arm's base frame. Who already stands outside may come in: per face, only what is farther out than before counts.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.rules.arm import Arm, framed
from safety.rules.names import D2
from safety.rules.rule import Evidence, Severity, not_evaluated, passed, truncated
from safety.score import rounded_value
from safety.verdict import NotEvaluated, RuleResult
from safety.workspace import Box

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InWorkspace:
    """One arm's. Joint actions go through forward kinematics; deltas need to know where they start."""

    id: ClassVar[str] = D2
    ok: ClassVar[RuleResult] = passed(D2)
    unknown: ClassVar[RuleResult] = not_evaluated(D2, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.TRUNCATE
    arm: Arm
    index: int
    min_prefix: int

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Every waypoint is looked at, and every straight way between two against the keep-outs."""
        track = evidence.track(self.arm, self.index)
        framed(self.arm, track)
        if track.points is None:
            return self.unknown
        points, first = track.points, 1 if track.has_start else 0
        excess = self._excess(points)
        bad = counted(excess)
        for keep_out in self.arm.workspace.keep_outs:
            bad |= entered(keep_out, points)
        bad[:first] = False
        row = int(bad.argmax())
        return self._left(points, excess[row], row, row - first, len(points) - first) if bad[row] else self.ok

    def _excess(self, points: Array) -> Array:
        """(S, F): how far each point is beyond each face, in m; the reach is one more face."""
        excess = points @ self.arm.faces.normals.T - self.arm.faces.offsets
        if self.arm.reach is None:
            return excess
        centre, radius = self.arm.reach
        away = points - centre
        return np.column_stack([excess, np.sqrt(np.vecdot(away, away)) - radius])

    def _left(self, points: Array, excess: Array, row: int, step: int, steps: int) -> RuleResult:
        worst = float(excess.max()) if len(excess) else 0.0
        x, y, z = (rounded_value(float(number), None) for number in points[row])
        what = f"{rounded_value(worst, None):g} m outside the workspace" if worst > 0 else "in a keep-out"
        return truncated(
            self.id,
            step,
            steps,
            self.min_prefix,
            value=max(worst, 0.0),
            limit=0.0,
            unit="m",
            message=f"step {step} takes the end effector to ({x:g}, {y:g}, {z:g}) m, {what}",
        )


def counted(excess: Array) -> NDArray[np.bool_]:
    """(S,) where a path is outside and farther out, on some face, than it has been before. Row 0 counts when it is outside."""
    if not (excess > 0).any():
        return np.zeros(len(excess), dtype=np.bool_)
    seen = np.minimum.accumulate(excess, axis=0)[:-1]
    allowed = np.concatenate([np.zeros((1, excess.shape[1])), np.maximum(seen, 0.0)])
    return np.asarray((excess > allowed).any(axis=1))


def entered(box: Box, points: Array) -> NDArray[np.bool_]:
    """(S,) where the straight way to a point, or the point, is inside the box; who begins inside may leave by the nearest way."""
    low, high = np.array(box.low_m), np.array(box.high_m)
    depth = np.minimum(points - low, high - points).min(axis=1)
    bad: NDArray[np.bool_] = np.zeros(len(points), dtype=np.bool_)
    bad[0] = depth[0] > 0
    starts, ways = points[:-1], points[1:] - points[:-1]
    is_still = ways == 0
    safe = np.where(is_still, 1.0, ways)
    at_low, at_high = (low - starts) / safe, (high - starts) / safe
    is_between = (starts > low) & (starts < high)
    enter = np.where(is_still, np.where(is_between, -np.inf, np.inf), np.minimum(at_low, at_high)).max(axis=1)
    leave = np.where(is_still, np.where(is_between, np.inf, -np.inf), np.maximum(at_low, at_high)).min(axis=1)
    crosses = (enter < leave) & (enter < 1.0) & (leave > 0.0)
    is_leaving = np.logical_and.accumulate((depth[:-1] > 0) & (depth[1:] < depth[:-1]))
    bad[1:] = crosses & ~is_leaving
    return bad
