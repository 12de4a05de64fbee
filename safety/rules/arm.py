"""One arm of one guard: its columns, its limits as arrays, its chain, body and workspace; and where a chunk would take it.

Built once per guard and shared by every rule that needs more than the numbers. Knows no request.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safety.action_space import JOINTS, ActionKind, ActionSpace, Group
from safety.arm_tables import body_from, chain_of
from safety.capsules import Body
from safety.kinematics import Chain, Frames
from safety.layering import GuardPolicy
from safety.robot import RobotProfile
from safety.workspace import Faces, Workspace, faces_of

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arm:
    """`low`, `high`: the window of B5. `hard_low`, `hard_high`: the manufacturer's. Per joint; speeds in rad/s."""

    group: Group
    kind: ActionKind
    control_hz: float
    joints: int
    low: Array
    high: Array
    hard_low: Array
    hard_high: Array
    speed: Array
    acceleration: Array | None
    jerk: Array | None
    braking: Array | None
    braking_offset: Array
    brake_low: Array  # the ends before which a joint must be able to stop
    brake_high: Array
    linear_speed_m_per_s: float | None
    angular_speed_rad_per_s: float | None
    chain: Chain | None
    body: Body | None
    workspace: Workspace
    faces: Faces
    reach: tuple[Array, float] | None  # centre and radius of the sphere that the end effector can be in

    @property
    def is_joints(self) -> bool:
        """True when its actions are about joints, not about the end effector."""
        return self.kind in JOINTS


@dataclass(slots=True, eq=False)
class Track:
    """Where a chunk takes one arm. Row 0 of `joints` and `points` is the start where `has_start`; None: cannot be known."""

    joints: Array | None
    points: Array | None
    frames: Frames | None
    has_start: bool


def arms_of(profile: RobotProfile, policy: GuardPolicy, space: ActionSpace) -> tuple[Arm, ...]:
    """One per group of columns."""
    limits, joints = policy.limits, profile.joints
    chain = None if profile.kinematics is None else chain_of(profile.kinematics)
    braking = joints.braking_rad_per_s2 or joints.acceleration_rad_per_s2
    offset = joints.braking_offset_rad_per_s
    reach = profile.workspace.reach_m
    count = profile.joints_per_arm
    return tuple(
        Arm(
            group=group,
            kind=space.kind,
            control_hz=space.control_hz,
            joints=count,
            low=inward(limits.joint_min_rad, +1),
            high=inward(limits.joint_max_rad, -1),
            hard_low=np.array(joints.position_min_rad.values),
            hard_high=np.array(joints.position_max_rad.values),
            speed=np.array(limits.joint_speed_rad_per_s),
            acceleration=_array(limits.joint_acceleration_rad_per_s2),
            jerk=_array(limits.joint_jerk_rad_per_s3),
            braking=None if braking is None else np.array(braking.values),
            braking_offset=np.zeros(count) if offset is None else np.array(offset.values),
            brake_low=np.array(limits.joint_min_rad) - joints.position_margin_rad.value,
            brake_high=np.array(limits.joint_max_rad) + joints.position_margin_rad.value,
            linear_speed_m_per_s=limits.linear_speed_m_per_s,
            angular_speed_rad_per_s=limits.angular_speed_rad_per_s,
            chain=chain,
            body=None if profile.geometry is None else body_from(profile.geometry),
            workspace=policy.workspace,
            faces=faces_of(policy.workspace),
            reach=None if chain is None or reach is None else (chain.frames(np.zeros((1, count))).positions[0, 1], reach.value),
        )
        for group in space.groups
    )


def inward(ends: tuple[float, ...], direction: int) -> Array:
    """The nearest float32 numbers that are not outside: a command put to its end must not be outside after the cast."""
    exact = np.array(ends)
    nearest = exact.astype(np.float32)
    is_outside = nearest < exact if direction > 0 else nearest > exact
    return np.where(is_outside, np.nextafter(nearest, np.float32(direction * np.inf)), nearest).astype(np.float64)


def track_of(arm: Arm, actions: Array, q: Array | None, position: Array | None) -> Track:
    """`actions` (T, D) of the whole chunk; `q` as reported, `position` as reported or as `q` has it; None: not known."""
    if arm.is_joints:
        return _joint_track(arm, actions[:, arm.group.arm], q)
    steps = actions[:, arm.group.translation]
    if arm.kind is ActionKind.EE_ABS:
        points = steps if position is None else np.concatenate([position[np.newaxis], steps])
        return Track(None, points, None, position is not None)
    if position is None:
        return Track(None, None, None, has_start=False)
    points = np.empty((len(steps) + 1, 3))
    points[0] = position
    np.cumsum(steps, axis=0, out=points[1:])
    points[1:] += position
    return Track(None, points, None, has_start=True)


def _joint_track(arm: Arm, columns: Array, q: Array | None) -> Track:
    if arm.kind is ActionKind.JOINT_ABS:
        joints = columns if q is None else np.concatenate([q[np.newaxis], columns])
    elif q is None:
        return Track(None, None, None, has_start=False)
    else:
        joints = np.empty((len(columns) + 1, arm.joints))
        joints[0] = q
        np.cumsum(columns, axis=0, out=joints[1:])
        if arm.kind is ActionKind.JOINT_VEL:
            joints[1:] /= arm.control_hz
        joints[1:] += q
    return Track(joints, None, None, has_start=q is not None)


def framed(arm: Arm, track: Track) -> Frames | None:
    """The frames along a joint track, computed when first asked for."""
    if track.frames is None and track.joints is not None and arm.chain is not None:
        track.frames = arm.chain.frames(track.joints)
        track.points = track.frames.end
    return track.frames


def _array(values: tuple[float, ...] | None) -> Array | None:
    return None if values is None else np.array(values)
