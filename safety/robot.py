"""What a robot can and may do, as numbers with their sources, and what of it holds under a preset: `limits_for`.

A number nobody published is None, never guessed. It knows no file format (that is `profile.py`), no policy and no request.
"""

from dataclasses import dataclass
from enum import StrEnum

from safety.capsules import Capsule
from safety.workspace import NO_WORKSPACE, Box, Workspace

STEP_MIN_SHARE = 1e-3  # of a gripper's range: what its largest step must at least be


class Preset(StrEnum):
    """How fast a robot may be asked to move."""

    REDUCED = "reduced"
    MANUFACTURER = "manufacturer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """One number per joint (or per end of a range), and where they come from."""

    values: tuple[float, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CartesianLimits:
    """The manufacturer's limits of the end effector and the elbow."""

    linear_speed_m_per_s: Number | None = None
    linear_acceleration_m_per_s2: Number | None = None
    linear_jerk_m_per_s3: Number | None = None
    angular_speed_rad_per_s: Number | None = None
    angular_acceleration_rad_per_s2: Number | None = None
    angular_jerk_rad_per_s3: Number | None = None
    elbow_speed_rad_per_s: Number | None = None
    elbow_acceleration_rad_per_s2: Number | None = None
    elbow_jerk_rad_per_s3: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLimits:
    """The manufacturer's limits per joint of one arm, from the base outward. `position_margin_rad` is kept from both ends.

    Braking near an end: |v| ≤ √(2 · braking · room) − offset, where a manufacturer publishes it so (FR3).
    """

    position_min_rad: Numbers
    position_max_rad: Numbers
    position_margin_rad: Number
    speed_rad_per_s: Numbers
    acceleration_rad_per_s2: Numbers | None = None
    jerk_rad_per_s3: Numbers | None = None
    braking_rad_per_s2: Numbers | None = None
    braking_offset_rad_per_s: Numbers | None = None
    torque_nm: Numbers | None = None
    torque_rate_nm_per_s: Numbers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GripperLimits:
    """The gripper command: its two ends, and the largest change between two steps where that is configured."""

    range: Numbers
    step_max: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetLimits:
    """What a preset asks for. None leaves the manufacturer's limit."""

    joint_speed_factor: Number
    linear_speed_m_per_s: Number | None = None
    angular_speed_rad_per_s: Number | None = None


class Convention(StrEnum):
    """How a kinematic table is to be read."""

    MODIFIED_DH = "modified_dh"  # rows of (a, alpha, d, theta offset), Craig; `tool` likewise
    CLASSIC_DH = "classic_dh"  # rows of (a, alpha, d, theta offset)
    SCREWS = "screws"  # rows of (ω, v) in the space frame; `tool` is the 4 × 4 home pose, row by row
    URDF = "urdf"  # rows of (x, y, z, roll, pitch, yaw), each joint about its z; `tool` likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class KinematicTable:
    """The published table, m and rad, one row per joint of one arm."""

    convention: Convention
    rows: tuple[tuple[float, ...], ...]
    tool: tuple[float, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Capsules for self-collision, and the pairs that are looked at; the others touch by construction or can never meet."""

    capsules: tuple[Capsule, ...]
    pairs: tuple[tuple[str, str], ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceLimits:
    """Where the manufacturer says the end effector can be, in the arm's base frame."""

    box_low_m: Numbers | None = None
    box_high_m: Numbers | None = None
    reach_m: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotProfile:
    """Everything known about one robot type. `content_hash` is the SHA-256 of its values and sources in canonical JSON.

    `unpublished` has the path and the reason of every number that was looked for and not found.
    """

    robot_type: str
    name: str
    version: int
    content_hash: str
    arms: int
    cartesian: CartesianLimits
    joints: JointLimits
    gripper: GripperLimits
    workspace: WorkspaceLimits
    reduced: PresetLimits
    manufacturer: PresetLimits
    kinematics: KinematicTable | None
    geometry: Geometry | None
    unpublished: tuple[tuple[str, str], ...]

    @property
    def joints_per_arm(self) -> int:
        """How many joints one arm has."""
        return len(self.joints.speed_rad_per_s.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one robot may do under one preset. None: no limit is known, and the rule that needs it says so.

    Joint numbers are per joint of one arm. `joint_min_rad` and `joint_max_rad` have the margin taken off.
    """

    linear_speed_m_per_s: float | None
    angular_speed_rad_per_s: float | None
    joint_speed_rad_per_s: tuple[float, ...]
    gripper_range: tuple[float, float]
    gripper_step_max: float | None
    joint_min_rad: tuple[float, ...] = ()
    joint_max_rad: tuple[float, ...] = ()
    joint_acceleration_rad_per_s2: tuple[float, ...] | None = None
    joint_jerk_rad_per_s3: tuple[float, ...] | None = None


def limits_for(profile: RobotProfile, preset: Preset) -> Limits:
    """The smaller of the robot's own limit and the preset's, for each quantity."""
    wanted = profile.reduced if preset is Preset.REDUCED else profile.manufacturer
    low, high = profile.gripper.range.values
    joints, margin = profile.joints, profile.joints.position_margin_rad.value
    return Limits(
        linear_speed_m_per_s=_smaller(profile.cartesian.linear_speed_m_per_s, wanted.linear_speed_m_per_s),
        angular_speed_rad_per_s=_smaller(profile.cartesian.angular_speed_rad_per_s, wanted.angular_speed_rad_per_s),
        joint_speed_rad_per_s=tuple(wanted.joint_speed_factor.value * speed for speed in joints.speed_rad_per_s.values),
        gripper_range=(low, high),
        gripper_step_max=None if profile.gripper.step_max is None else profile.gripper.step_max.value,
        joint_min_rad=tuple(end + margin for end in joints.position_min_rad.values),
        joint_max_rad=tuple(end - margin for end in joints.position_max_rad.values),
        joint_acceleration_rad_per_s2=_values(joints.acceleration_rad_per_s2),
        joint_jerk_rad_per_s3=_values(joints.jerk_rad_per_s3),
    )


def _smaller(*numbers: Number | None) -> float | None:
    return min((number.value for number in numbers if number is not None), default=None)


def workspace_of(profile: RobotProfile) -> Workspace:
    """The default workspace: the manufacturer's box, where one is published."""
    low, high = profile.workspace.box_low_m, profile.workspace.box_high_m
    if low is None or high is None:
        return NO_WORKSPACE
    return Workspace(
        box=Box(
            low_m=(low.values[0], low.values[1], low.values[2]),
            high_m=(high.values[0], high.values[1], high.values[2]),
        )
    )


def _values(numbers: Numbers | None) -> tuple[float, ...] | None:
    return None if numbers is None else numbers.values
