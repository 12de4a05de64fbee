"""D6 and D7: the arm's links, as capsules, keep clear of each other and of declared surfaces. Near warns, contact ends the chunk.

Looked at on some ten waypoints of a joint chunk; only when one of them touches is every step looked at. Capsules are coarse and
hold no tool: a finding is a reason to look, its absence is no proof.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.capsules import Body
from safety.kinematics import Frames
from safety.rules.arm import Arm, framed
from safety.rules.chain import waypoints
from safety.rules.names import D6, D7
from safety.rules.rule import Evidence, Severity, not_evaluated, passed, truncated
from safety.verdict import NotEvaluated, RuleResult, RuleStatus
from safety.workspace import HalfSpace

Array = NDArray[np.float64]
NEAR_M = 0.02
MOUNTED_LINKS = 1  # links up to this one stand on the table by construction


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Near:
    """What is found, and between what."""

    clearances: Array  # (S,) of each row
    names: Callable[[int], str]  # of the closest things at a row


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelfCollision:
    """D6: clearance between pairs of capsules."""

    id: ClassVar[str] = D6
    ok: ClassVar[RuleResult] = passed(D6)
    unknown: ClassVar[RuleResult] = not_evaluated(D6, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.TRUNCATE
    arm: Arm
    index: int
    body: Body
    min_prefix: int

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Deltas and velocities need the joints they start from."""
        return _judged(self, evidence, self._near)

    def _near(self, frames: Frames) -> _Near:
        body = self.body
        clearances = body.clearances(body.placed(frames))
        closest = clearances.argmin(axis=1)

        def names(row: int) -> str:
            pair = closest[row]
            return f"{body.names[body.first[pair]]} and {body.names[body.second[pair]]}"

        return _Near(clearances=clearances.min(axis=1), names=names)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurfaceClearance:
    """D7: clearance of every moving capsule from every declared plane."""

    id: ClassVar[str] = D7
    ok: ClassVar[RuleResult] = passed(D7)
    unknown: ClassVar[RuleResult] = not_evaluated(D7, NotEvaluated.NO_STATE)
    severity: ClassVar[Severity] = Severity.TRUNCATE
    arm: Arm
    index: int
    body: Body
    surfaces: tuple[HalfSpace, ...]
    min_prefix: int

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """Deltas and velocities need the joints they start from."""
        return _judged(self, evidence, self._near)

    def _near(self, frames: Frames) -> _Near:
        body = self.body
        moving = body.links > MOUNTED_LINKS
        placed = body.placed(frames)[:, moving]
        normals = np.array([surface.normal for surface in self.surfaces])
        offsets = np.array([surface.offset_m for surface in self.surfaces])
        clear = offsets - (placed @ normals.T).max(axis=2) - body.radii[moving][:, np.newaxis]  # (S, C, surfaces)
        lowest = clear.min(axis=2)
        moving_names = [name for name, is_moving in zip(body.names, moving, strict=True) if is_moving]
        return _Near(clearances=lowest.min(axis=1), names=lambda row: f"{moving_names[lowest[row].argmin()]} and a surface")


def _judged(rule: SelfCollision | SurfaceClearance, evidence: Evidence, near: Callable[[Frames], _Near]) -> RuleResult:
    track = evidence.track(rule.arm, rule.index)
    frames = framed(rule.arm, track)
    if frames is None:
        return rule.unknown
    first = 1 if track.has_start else 0
    rows = waypoints(len(frames.positions) - first) + first
    found = near(Frames(frames.rotations[rows], frames.positions[rows]))
    lowest = int(found.clearances.argmin())
    if found.clearances[lowest] > 0:
        return _warned(rule, float(found.clearances[lowest]), int(rows[lowest]) - first, found.names(lowest))
    every = near(Frames(frames.rotations[first:], frames.positions[first:]))
    step = int((every.clearances <= 0).argmax())
    return truncated(
        rule.id,
        step,
        len(every.clearances),
        rule.min_prefix,
        value=float(every.clearances[step]),
        limit=0.0,
        unit="m",
        message=f"{every.names(step)} would touch at step {step} (capsule approximation)",
    )


def _warned(rule: SelfCollision | SurfaceClearance, clearance: float, step: int, names: str) -> RuleResult:
    """1 from 20 mm on, half at contact."""
    if clearance >= NEAR_M:
        return rule.ok
    return RuleResult(
        id=rule.id,
        status=RuleStatus.WARNED,
        score=0.5 + 0.5 * clearance / NEAR_M,
        value=clearance,
        limit=NEAR_M,
        unit="m",
        at=(step, None),
        message=f"{names} come within {clearance:.4g} m of each other at step {step} (capsule approximation)",
    )
