"""What the numbers of one action mean: which columns move, turn and grip, in which units, how often a second, for which arm.

Built once per policy from its manifest's facts; a convention the guard cannot check refuses here, when the policy is loaded,
never while a robot waits. It knows no robot and no limit.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

TRANSLATION = slice(0, 3)
ROTATION = slice(3, 6)
CONTROL_HZ_MIN, CONTROL_HZ_MAX = 1e-3, 1000.0
JOINTS_MAX = 8
GRIPPER_UNITS = frozenset({"1", "normalised", "normalized", "fraction"})
ROBOT_BASE = "robot_base"  # the only frame in which translations can be added to a position
SIDES = ("left", "right")


class ActionKind(StrEnum):
    """The kinds of action that manifests know, by the same words."""

    EE_DELTA_ROTVEC = "ee_delta_rotvec"
    EE_DELTA_EULER = "ee_delta_euler"
    EE_ABS = "ee_abs"
    JOINT_ABS = "joint_abs"
    JOINT_DELTA = "joint_delta"
    JOINT_VEL = "joint_vel"


EE_DELTAS = frozenset({ActionKind.EE_DELTA_ROTVEC, ActionKind.EE_DELTA_EULER})
JOINTS = frozenset({ActionKind.JOINT_ABS, ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL})
SUPPORTED = frozenset(ActionKind)


class GripperPolarity(StrEnum):
    """Which end of the gripper's range means open."""

    ONE_IS_CLOSED = "one_is_closed"
    ONE_IS_OPEN = "one_is_open"


class RotationForm(StrEnum):
    """How an absolute pose writes its rotation; told by the names of its columns, never by their number alone."""

    ROTATION_VECTOR = "rotation_vector"  # rx, ry, rz or rot_x, rot_y, rot_z
    EULER = "euler"  # roll, pitch, yaw; manifests do not state the order
    QUATERNION_XYZW = "quaternion_xyzw"  # qx, qy, qz, qw
    QUATERNION_WXYZ = "quaternion_wxyz"  # qw, qx, qy, qz
    SIX_D = "six_d"  # r1 … r6: the first two columns of the matrix


ROTATION_NAMES = {
    ("rx", "ry", "rz"): RotationForm.ROTATION_VECTOR,
    ("rot_x", "rot_y", "rot_z"): RotationForm.ROTATION_VECTOR,
    ("roll", "pitch", "yaw"): RotationForm.EULER,
    ("qx", "qy", "qz", "qw"): RotationForm.QUATERNION_XYZW,
    ("qw", "qx", "qy", "qz"): RotationForm.QUATERNION_WXYZ,
    ("r1", "r2", "r3", "r4", "r5", "r6"): RotationForm.SIX_D,
}


class UnsupportedActionSpaceError(Exception):
    """The guard cannot check actions of this description, so the policy must not be served."""

    def __init__(self, field: str, fault: str) -> None:
        self.field = field
        self.fault = fault
        super().__init__(f"{field}: {fault}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The columns of one arm: first its motion (`start` up to `stop`), then its gripper, if it has one."""

    name: str  # "left", "right", or "" where there is one arm
    start: int
    stop: int
    gripper: int | None

    @property
    def arm(self) -> slice:
        """The columns that move the arm."""
        return slice(self.start, self.stop)

    @property
    def translation(self) -> slice:
        """The first three of them, for an end effector."""
        return slice(self.start, self.start + 3)

    @property
    def rotation(self) -> slice:
        """The others, for an end effector."""
        return slice(self.start + 3, self.stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpace:
    """One row of numbers per step. Two arms: all names begin with "left_" or "right_", the left arm's columns come first.

    End-effector deltas: x, y, z in metres, three rotation numbers in radians. Absolute poses: x, y, z in metres and a rotation
    named as in ROTATION_NAMES. Joints: radians (or rad/s), from the base outward. Then the gripper, exactly when its polarity is
    given. `frame` is the manifest's; `training_range` the 1st and 99th percentile of each column in the training data.
    Raises UnsupportedActionSpaceError for anything else.
    """

    kind: ActionKind
    names: tuple[str, ...]
    units: tuple[str, ...]
    control_hz: float
    gripper_polarity: GripperPolarity | None
    frame: str | None = None
    training_range: tuple[tuple[float, float], ...] | None = None
    groups: tuple[Group, ...] = field(init=False)
    rotation_form: RotationForm | None = field(init=False)

    def __post_init__(self) -> None:
        if self.kind not in SUPPORTED:
            raise UnsupportedActionSpaceError("kind", f"{self.kind!s} is not checked by this guard version")
        if len(self.units) != len(self.names):
            raise UnsupportedActionSpaceError("units", f"{len(self.units)} units for {len(self.names)} columns")
        groups = self._groups()
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "rotation_form", self._rotation_form(groups) if self.kind is ActionKind.EE_ABS else None)
        for group in groups:
            self._check_units(group)
        if not CONTROL_HZ_MIN <= self.control_hz <= CONTROL_HZ_MAX:  # also when it is NaN
            raise UnsupportedActionSpaceError("control_hz", f"{CONTROL_HZ_MIN:g} to {CONTROL_HZ_MAX:g} is needed")
        self._check_training_range()

    @property
    def width(self) -> int:
        """Numbers per step."""
        return len(self.names)

    @property
    def has_gripper(self) -> bool:
        """True when each arm's last column commands a gripper."""
        return self.gripper_polarity is not None

    @property
    def is_joints(self) -> bool:
        """True when the numbers are about joints, not about the end effector."""
        return self.kind in JOINTS

    def _groups(self) -> tuple[Group, ...]:
        counts = [sum(name.startswith(f"{side}_") for name in self.names) for side in SIDES]
        if 0 < sum(counts) < self.width or counts[0] != counts[1]:
            raise UnsupportedActionSpaceError("names", "left_ and right_ are for two equal arms, and then in every name")
        arms = 2 if sum(counts) else 1
        if arms == 2 and not all(name.startswith("left_") for name in self.names[: counts[0]]):
            raise UnsupportedActionSpaceError("names", "the left arm's columns come first")
        each = self.width // arms
        motion = self._motion_columns(each)
        sides = SIDES if arms == 2 else ("",)
        return tuple(
            Group(name=side, start=at * each, stop=at * each + motion, gripper=at * each + motion if motion < each else None)
            for at, side in enumerate(sides)
        )

    def _motion_columns(self, each: int) -> int:
        """How many of one arm's columns move it; the one that may be left is the gripper's."""
        if self.kind in EE_DELTAS:
            if each not in (6, 7):
                raise UnsupportedActionSpaceError("names", f"6 or 7 columns are needed, not {each}")
            if (each == 7) != self.has_gripper:
                raise UnsupportedActionSpaceError("gripper_polarity", "needed with a gripper column, and only then")
        motion = each - 1 if self.has_gripper else each
        if self.is_joints and not 1 <= motion <= JOINTS_MAX:
            raise UnsupportedActionSpaceError("names", f"1 to {JOINTS_MAX} joints are needed, not {motion}")
        return motion

    def _rotation_form(self, groups: tuple[Group, ...]) -> RotationForm:
        forms = set()
        for group in groups:
            prefix = f"{group.name}_" if group.name else ""
            names = tuple(name.removeprefix(prefix) for name in self.names[group.arm])
            if names[:3] != ("x", "y", "z") or names[3:] not in ROTATION_NAMES:
                raise UnsupportedActionSpaceError("names", "x, y, z and a rotation by its usual names are needed")
            forms.add(ROTATION_NAMES[names[3:]])
        if len(forms) != 1:
            raise UnsupportedActionSpaceError("names", "both arms must write rotations alike")
        return forms.pop()

    def _check_units(self, group: Group) -> None:
        units = self.units[group.arm]
        if self.is_joints:
            wanted = "rad/s" if self.kind is ActionKind.JOINT_VEL else "rad"
            if set(units) != {wanted}:
                raise UnsupportedActionSpaceError("units", f"joints must be in {wanted}")
        else:
            is_angle = self.rotation_form in (None, RotationForm.ROTATION_VECTOR, RotationForm.EULER)
            if units != ("m",) * 3 + (("rad",) if is_angle else ("1",)) * (len(units) - 3):
                raise UnsupportedActionSpaceError(
                    "units", "translation must be in m and rotation in rad (1 for quaternion and 6-D)"
                )
        if group.gripper is not None and self.units[group.gripper] not in GRIPPER_UNITS:
            raise UnsupportedActionSpaceError("units", f"the gripper must be normalised, not in {self.units[group.gripper]!r}")

    def _check_training_range(self) -> None:
        ranges = self.training_range
        if ranges is None:
            return
        if len(ranges) != self.width or not all(
            math.isfinite(low) and math.isfinite(high) and low <= high for low, high in ranges
        ):
            raise UnsupportedActionSpaceError("training_range", "a finite lower and higher number per column are needed")
