"""B1 and B2: how fast the end effector is asked to move and to turn, per step. Excess is scaled away without changing direction.

Speeds are of the whole vector, never per axis. Judges the deltas themselves; where they lead (workspace) needs the robot's state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind, ActionSpace, Group
from safety.rules.names import B1, B2
from safety.rules.rule import Evidence, Severity
from safety.score import judge, rounded_value
from safety.verdict import RuleResult

# A scaled step aims below its limit and must arrive below it by more than rounding to float32 (relative 2**-24) can add.
AIM = 1.0 - 2.0**-21
ARRIVED = 1.0 - 2.0**-22
ROUNDING_EXCESS = 1.0 + 1e-6  # a step over its limit by less was rounded, not meant
PASSES_MAX = 64


def norms(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length of each translation, or angle of each rotation vector."""
    lengths: NDArray[np.float64] = np.sqrt(np.vecdot(vectors, vectors))
    return lengths


def euler_angles(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation angle of each Euler triple, in whichever of the twelve Tait-Bryan conventions turns farthest.

    The composed quaternion's real part is cos·cos·cos ± sin·sin·sin of the half angles, the sign depending on the order, which
    manifests do not state: the smaller real part is the larger angle. It is summed as its distance from 1, which keeps small
    angles exact. Beyond π the largest component takes over, so that the result never falls when the triple grows and degrees
    cannot pass as a small remainder.
    """
    magnitudes = np.abs(angles)
    halves = np.minimum(magnitudes, np.pi) * 0.5
    versines = 2.0 * np.sin(halves * 0.5) ** 2  # 1 - cos(half)
    x, y, z = versines[:, 0], versines[:, 1], versines[:, 2]
    below_one = x + y * (1.0 - x) + z * (1.0 - x) * (1.0 - y) + np.multiply.reduce(np.sin(halves), axis=1)
    composed = 4.0 * np.arcsin(np.sqrt(np.minimum(below_one, 1.0) * 0.5))
    turned: NDArray[np.float64] = np.maximum(composed, np.maximum.reduce(magnitudes, axis=1))
    return turned


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpeed:
    """The magnitude of three columns, times steps per second, within one limit."""

    severity: ClassVar[Severity] = Severity.CLAMP
    id: str
    columns: slice
    magnitude: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    control_hz: float
    limit: float
    unit: str
    verb: str
    is_proportional: bool = True  # the magnitude of a scaled vector is the scaled magnitude

    def evaluate(self, evidence: Evidence) -> RuleResult:
        """The fastest step decides."""
        magnitudes = self.magnitude(evidence.actions[:, self.columns])
        evidence.measured[self.id, self.columns.start] = magnitudes
        step = int(magnitudes.argmax())
        value = float(magnitudes[step]) * self.control_hz
        status, score = judge(value, self.limit)
        return RuleResult(
            id=self.id,
            status=status,
            score=score,
            value=value,
            limit=self.limit,
            unit=self.unit,
            at=(step, None),
            message=None if value <= self.limit else self._message(step, value),
        )

    @property
    def enforces(self) -> frozenset[str]:
        """Itself."""
        return frozenset({self.id})

    def clamp(self, actions: NDArray[np.float64], evidence: Evidence) -> NDArray[np.bool_]:
        """One factor per step. More than one pass is needed only for Euler triples, whose angle is not proportional."""
        speeds = evidence.measured[self.id, self.columns.start] * self.control_hz
        shortened: NDArray[np.bool_] = speeds > self.limit * ROUNDING_EXCESS
        rows = np.flatnonzero(speeds > self.limit)
        if len(rows) == 0:  # the other arm's was too fast
            return shortened
        vectors, speeds = actions[rows, self.columns], speeds[rows]
        for _ in range(PASSES_MAX):  # pragma: no branch -- two have always been enough; if not, the post-check refuses
            vectors *= (self.limit * AIM / np.maximum(speeds, self.limit * AIM))[:, np.newaxis]
            if self.is_proportional:
                break
            speeds = self.magnitude(vectors) * self.control_hz
            if np.maximum.reduce(speeds) <= self.limit * ARRIVED:
                break
        actions[rows, self.columns] = vectors
        return shortened

    def _message(self, step: int, value: float) -> str:
        shown = rounded_value(value, self.limit)
        return f"step {step} would {self.verb} at {shown:.12g} {self.unit}; the limit is {self.limit:.12g}"


def linear_speed(space: ActionSpace, group: Group, limit_m_per_s: float) -> StepSpeed:
    """B1: the translation's length."""
    return StepSpeed(
        id=B1,
        columns=group.translation,
        magnitude=norms,
        control_hz=space.control_hz,
        limit=limit_m_per_s,
        unit="m/s",
        verb="move the end effector",
    )


def angular_speed(space: ActionSpace, group: Group, limit_rad_per_s: float) -> StepSpeed:
    """B2: the rotation's angle."""
    is_euler = space.kind is ActionKind.EE_DELTA_EULER
    return StepSpeed(
        id=B2,
        columns=group.rotation,
        is_proportional=not is_euler,
        magnitude=euler_angles if is_euler else norms,
        control_hz=space.control_hz,
        limit=limit_rad_per_s,
        unit="rad/s",
        verb="turn the end effector",
    )
