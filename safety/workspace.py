"""Where the end effector may be: a box, half-spaces and keep-out boxes, in metres, in the robot's base frame. Geometry only.

Convex parts (box and half-spaces) are one list of half-spaces n·p ≤ d. It knows no rule and no robot.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float, float]


class EmptyWorkspaceError(Exception):
    """No point is left, or a bound is not a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """low ≤ p ≤ high per axis; infinite where there is no bound. Raises EmptyWorkspaceError unless low < high everywhere."""

    low_m: Point
    high_m: Point

    def __post_init__(self) -> None:
        if len(self.low_m) != 3 or len(self.high_m) != 3:
            raise EmptyWorkspaceError("a box has three lower and three upper bounds")
        for low, high in zip(self.low_m, self.high_m, strict=True):
            if not low < high:  # also when either is NaN
                raise EmptyWorkspaceError(f"the lower bound {low} is not below the upper bound {high}")

    def cut_with(self, other: "Box") -> "Box":
        """What both contain. Raises EmptyWorkspaceError when that is nothing."""
        lows = [max(a, b) for a, b in zip(self.low_m, other.low_m, strict=True)]
        highs = [min(a, b) for a, b in zip(self.high_m, other.high_m, strict=True)]
        return Box(low_m=(lows[0], lows[1], lows[2]), high_m=(highs[0], highs[1], highs[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfSpace:
    """normal · p ≤ offset_m, with a unit normal. Raises EmptyWorkspaceError for a normal that is none."""

    normal: Point
    offset_m: float

    def __post_init__(self) -> None:
        length = math.hypot(*self.normal)
        if len(self.normal) != 3 or not abs(length - 1.0) <= 1e-6 or not math.isfinite(self.offset_m):
            raise EmptyWorkspaceError(f"{self.normal} · p ≤ {self.offset_m} needs a normal of length 1 and a finite offset")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """All of it. `surfaces` are planes that the arm's links must stay behind too (D7), not only its end effector."""

    box: Box | None = None
    half_spaces: tuple[HalfSpace, ...] = ()
    keep_outs: tuple[Box, ...] = ()
    surfaces: tuple[HalfSpace, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True when nothing limits the end effector's place."""
        return self.box is None and not self.half_spaces and not self.keep_outs


NO_WORKSPACE = Workspace()


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """The convex part of a workspace as arrays: normals (F, 3) and offsets (F,)."""

    normals: NDArray[np.float64] = field(repr=False)
    offsets: NDArray[np.float64] = field(repr=False)


def faces_of(workspace: Workspace) -> Faces:
    """Six faces of the box (without the infinite ones), then the half-spaces."""
    rows: list[tuple[Point, float]] = [(half.normal, half.offset_m) for half in workspace.half_spaces]
    if workspace.box is not None:
        for axis in range(3):
            unit = [0.0, 0.0, 0.0]
            unit[axis] = 1.0
            rows.append(((unit[0], unit[1], unit[2]), workspace.box.high_m[axis]))
            rows.append(((-unit[0], -unit[1], -unit[2]), -workspace.box.low_m[axis]))
    kept = [row for row in rows if math.isfinite(row[1])]
    return Faces(np.array([row[0] for row in kept]).reshape(-1, 3), np.array([row[1] for row in kept]))
