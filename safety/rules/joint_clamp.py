"""Makes B3, B5, C1, D1 and D4 true at once: each target is put into the position box, then one factor per step for all joints.

A point between two points of the box is in the box, so the two do not fight. The factor is against the previous returned command,
so an arm that was slowed down catches up. Knows no rule but by name; works in float32 numbers, because those are sent.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.rules.arm import Arm
from safety.rules.cartesian import AIM, ROUNDING_EXCESS
from safety.rules.names import B3, B5, C1, D1, D4
from safety.rules.reference import reference
from safety.rules.rule import Evidence

Array = NDArray[np.float64]
FLOAT32 = 2.0**-23  # what rounding two numbers to float32 may add to their difference, as a share of the larger
INSIDE_RAD = 1e-6  # summed float32 deltas miss a point by less than this


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointClamp:
    """One arm's. Deltas and velocities without a known start are only scaled: where they lead, nobody can tell."""

    enforces = frozenset({B3, B5, C1, D1, D4})
    arm: Arm
    index: int
    pace: "_Pace" = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pace", _Pace(self.arm))

    def clamp(self, actions: Array, evidence: Evidence) -> NDArray[np.bool_]:
        """In place. Returns which steps are shorter than asked for by more than rounding."""
        columns = actions[:, self.arm.group.arm]
        if self.arm.kind is ActionKind.JOINT_ABS:
            return self._follow(columns, reference(evidence.known, self.arm, self.index))
        track = evidence.track(self.arm, self.index)
        rate = 1.0 if self.arm.kind is ActionKind.JOINT_VEL else self.arm.control_hz
        if track.joints is None:
            return _scaled(columns, self.arm.speed / rate)
        return self._follow_deltas(columns, track.joints[0], rate)

    def _follow(self, columns: Array, start: Array | None) -> NDArray[np.bool_]:
        """Positions: goes for each target in turn. Where the arm has caught up, only steps that are too fast are looked at."""
        arm, pace = self.arm, self.pace
        boxed = np.clip(columns, arm.low, arm.high)
        shortened = np.asarray((np.abs(boxed - columns) > INSIDE_RAD).any(axis=1))
        columns[:] = boxed
        before = np.concatenate([boxed[:1] if start is None else start[np.newaxis], boxed[:-1]])
        is_fast = pace.is_too_fast(before, boxed - before)
        at: list[float] | None = None  # None: caught up
        for step in range(int(is_fast.argmax()) if is_fast.any() else len(boxed), len(boxed)):
            if at is None and not is_fast[step]:
                continue
            at = before[step].tolist() if at is None else at
            move = [target - here for target, here in zip(boxed[step].tolist(), at, strict=True)]
            factor = pace.factor(at, move)
            if factor >= 1.0:
                at = None
                continue
            shortened[step] |= factor * ROUNDING_EXCESS < 1.0
            columns[step] = np.array([here + factor * way for here, way in zip(at, move, strict=True)], dtype=np.float32)
            at = columns[step].tolist()
        return shortened

    def _follow_deltas(self, columns: Array, start: Array, rate: float) -> NDArray[np.bool_]:
        """Deltas or velocities (`rate` turns columns into rad/s): what is left of each after the box and the factor."""
        pace = self.pace
        lows, highs = (self.arm.low + INSIDE_RAD).tolist(), (self.arm.high - INSIDE_RAD).tolist()
        shortened = np.zeros(len(columns), dtype=np.bool_)
        per_column = rate / self.arm.control_hz  # from a column's number to rad
        at = start.tolist()
        for step, asked in enumerate((columns * per_column).tolist()):
            boxes = zip(at, asked, lows, highs, strict=True)
            wanted = [_boxed(here, way, min(low, here), max(high, here)) for here, way, low, high in boxes]
            factor = pace.factor(at, wanted)
            if factor < 1.0 or wanted != asked:
                is_cut = any(abs(a - b) > 2.0 * INSIDE_RAD for a, b in zip(wanted, asked, strict=True))
                shortened[step] = factor * ROUNDING_EXCESS < 1.0 or is_cut
                columns[step] = np.array([min(factor, 1.0) * way / per_column for way in wanted], dtype=np.float32)
            at = [here + way * per_column for here, way in zip(at, columns[step].tolist(), strict=True)]
        return shortened


def _boxed(here: float, way: float, low: float, high: float) -> float:
    """What of the way stays between the two; exactly the way itself where all of it does."""
    there = here + way
    return way if low <= there <= high else min(max(there, low), high) - here


class _Pace:
    """How fast one arm may go from where it is: plain floats, because a loop over steps is slow in arrays of seven."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self.hz = arm.control_hz
        count = arm.joints
        self.speeds: list[float] = arm.speed.tolist()
        braking = [math.inf] * count if arm.braking is None else arm.braking.tolist()
        ends = (arm.braking_offset.tolist(), arm.brake_low.tolist(), arm.brake_high.tolist())
        self.brakes = list(zip(braking, *ends, strict=True))

    def is_too_fast(self, at: Array, moves: Array) -> NDArray[np.bool_]:
        """(T,) whether a step from row to row must be slowed down."""
        arm, allowed = self.arm, self.arm.speed
        if arm.braking is not None:
            ahead = np.where(moves > 0, arm.brake_high - at, at - arm.brake_low)
            half = arm.braking_offset + arm.braking / self.hz
            room = np.maximum(half * half - arm.braking_offset**2 + 2.0 * arm.braking * ahead, 0.0)
            allowed = np.minimum(allowed, np.maximum(np.sqrt(room) - half, 0.0))
        return np.asarray((np.abs(moves) * self.hz > allowed).any(axis=1))

    def factor(self, at: list[float], move: list[float]) -> float:
        """The largest share of `move` (rad) from `at` that no joint's speed or stopping room forbids; 1 or more: all of it."""
        share = 1.0
        for here, way, speed, brake in zip(at, move, self.speeds, self.brakes, strict=True):
            asked = abs(way)
            allowed = min(speed, self._stopping_speed(here, way, brake))
            if asked * self.hz > allowed:
                room = allowed * AIM / self.hz - FLOAT32 * (abs(here) + asked)
                share = min(share, max(room, 0.0) / asked)
        return share

    def _stopping_speed(self, here: float, way: float, brake: tuple[float, float, float, float]) -> float:
        """The speed with which a step from `here` still leaves room to stop behind it: D4 solved for v."""
        braking, offset, low, high = brake
        if braking == math.inf:
            return math.inf
        ahead = high - here if way > 0 else here - low
        half = offset + braking / self.hz
        return max(math.sqrt(max(half * half - offset * offset + 2.0 * braking * ahead, 0.0)) - half, 0.0)


def _scaled(columns: Array, limits: Array) -> NDArray[np.bool_]:
    """One factor per step, so that no column exceeds its limit."""
    share = np.max(np.abs(columns) / limits, axis=1)
    over = share > 1.0
    columns[over] *= (AIM / share[over])[:, np.newaxis]
    return np.asarray(share > ROUNDING_EXCESS)
