"""Forward kinematics of a serial arm with turning joints, in numpy, for whole chunks at once. Knows no robot, limit or rule.

Published tables come as modified DH (Craig), classic DH, screw axes (product of exponentials) or URDF origins; all become one
`Chain`: a constant transform before each joint, a turn about its z, and a constant transform to the end effector.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class KinematicsError(Exception):
    """A table that describes no chain; `fault` says why."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        super().__init__(fault)


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """`rotations` (T, n + 1, 3, 3) and `positions` (T, n + 1, 3) in the base frame; the last of each is the end effector."""

    rotations: Array
    positions: Array

    @property
    def end(self) -> Array:
        """(T, 3): where the end effector is, in m."""
        return self.positions[:, -1]


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """`rotations` (n + 1, 3, 3) and `offsets` (n + 1, 3): what stands before each joint, and behind the last."""

    rotations: Array
    offsets: Array
    links: tuple[Array, ...] = field(init=False, repr=False)  # (4, 3) each: the columns of the rotation, then the offset

    def __post_init__(self) -> None:
        pairs = zip(self.rotations, self.offsets, strict=True)
        object.__setattr__(self, "links", tuple(np.vstack([rotation.T, offset]) for rotation, offset in pairs))

    @property
    def joints(self) -> int:
        """How many joints turn."""
        return len(self.offsets) - 1

    def frames(self, q: Array) -> Frames:
        """For (T, n) joint angles in rad. Some 35 µs for 50 × 7.

        All steps lie side by side in the last axis: a constant link is one matrix product for the whole chunk, and a joint's turn
        mixes the first two columns.
        """
        steps, count = q.shape
        cosines, sines = np.cos(q.T), np.empty((count, 2, 1, steps))
        np.sin(q.T, out=sines[:, 0, 0])
        np.negative(sines[:, 0, 0], out=sines[:, 1, 0])
        columns, mixed = np.empty((count + 1, 4, 3, steps)), np.empty((2, 3, steps))
        flat = columns.reshape(count + 1, 4, 3 * steps)
        columns[0] = self.links[0][:, :, np.newaxis]
        for joint in range(count + 1):
            if joint:
                np.dot(self.links[joint], flat[joint - 1, :3], out=flat[joint])
            if joint < count:
                turned = columns[joint, :2]
                np.multiply(sines[joint], turned[::-1], out=mixed)
                np.multiply(turned, cosines[joint], out=turned)
                np.add(turned, mixed, out=turned)
        positions = np.add.accumulate(columns[:, 3], axis=0)
        return Frames(columns[:, :3].transpose(3, 0, 2, 1), positions.transpose(2, 0, 1))


def jacobian(frames: Frames) -> Array:
    """(T, 6, n): linear (m/rad) above angular velocity of the end effector per joint velocity, in the base frame."""
    axes = frames.rotations[:, :-1, :, 2].transpose(2, 0, 1)  # (3, T, n)
    x, y, z = axes
    right, ahead, up = (frames.positions[:, -1:, :] - frames.positions[:, :-1, :]).transpose(2, 0, 1)
    found = np.empty((len(x), 6, x.shape[1]))
    found[:, 0] = y * up - z * ahead
    found[:, 1] = z * right - x * up
    found[:, 2] = x * ahead - y * right
    found[:, 3:] = axes.transpose(1, 0, 2)
    return found


def modified_dh(rows: Sequence[Sequence[float]], tool: Sequence[float]) -> Chain:
    """Craig's convention: per joint (a, alpha, d, theta offset) with a and alpha of the link before it; `tool` likewise."""
    return _chain([_turn(0, alpha) @ _move(a, 0, 0) @ _move(0, 0, d) @ _turn(2, theta) for a, alpha, d, theta in (*rows, tool)])


def classic_dh(rows: Sequence[Sequence[float]]) -> Chain:
    """Per joint (a, alpha, d, theta offset) with a and alpha of the link behind it."""
    links = [_turn(2, theta) @ _move(0, 0, d) @ _move(a, 0, 0) @ _turn(0, alpha) for a, alpha, d, theta in rows]
    return _chain([np.eye(4), *links])


def screws(axes: Sequence[Sequence[float]], home: Sequence[Sequence[float]]) -> Chain:
    """Product of exponentials: per joint (ω, v) in the space frame at zero, and the end effector's 4 × 4 pose there."""
    poses = [np.eye(4)]
    for axis in axes:
        omega, v = np.array(axis[:3], dtype=np.float64), np.array(axis[3:], dtype=np.float64)
        if abs(np.linalg.norm(omega) - 1) > 1e-9 or abs(omega @ v) > 1e-9:
            raise KinematicsError("a screw axis needs a unit ω and no pitch")
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = _facing(omega), np.cross(omega, v)
        poses.append(pose)
    poses.append(np.array(home, dtype=np.float64))
    return _chain([np.asarray(np.linalg.solve(before, after), dtype=np.float64) for before, after in pairwise(poses)])


def urdf(origins: Sequence[Sequence[float]], tool: Sequence[float]) -> Chain:
    """Per joint (x, y, z, roll, pitch, yaw) of its origin, every joint turning about its z; `tool` likewise."""
    return _chain([_move(*row[:3]) @ _turn(2, row[5]) @ _turn(1, row[4]) @ _turn(0, row[3]) for row in (*origins, tool)])


def _chain(transforms: Sequence[Array]) -> Chain:
    stacked = np.array(transforms)
    return Chain(np.ascontiguousarray(stacked[:, :3, :3]), np.ascontiguousarray(stacked[:, :3, 3]))


def _turn(axis: int, angle_rad: float) -> Array:
    transform = np.eye(4)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    transform[i, i] = transform[j, j] = math.cos(angle_rad)
    transform[i, j], transform[j, i] = -math.sin(angle_rad), math.sin(angle_rad)
    return transform


def _move(x: float, y: float, z: float) -> Array:
    transform = np.eye(4)
    transform[:3, 3] = x, y, z
    return transform


def _facing(axis: Array) -> Array:
    """Some rotation whose z is this unit vector."""
    other = np.eye(3)[int(np.argmin(np.abs(axis)))]
    x = np.cross(other, axis)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(axis, x), axis])
