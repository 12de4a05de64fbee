"""What the numbers of one action mean: which columns move, turn and grip, in which units, how often a second.

Built once per policy from its manifest's facts; a convention the guard cannot check refuses here, when the policy is loaded,
never while a robot waits. It knows no robot and no limit.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

TRANSLATION = slice(0, 3)
ROTATION = slice(3, 6)
GRIPPER = 6
CONTROL_HZ_MAX = 1000.0
GRIPPER_UNITS = frozenset({"1", "normalised", "normalized", "fraction"})


class ActionKind(StrEnum):
    """The kinds of action that manifests know, by the same words."""

    EE_DELTA_ROTVEC = "ee_delta_rotvec"
    EE_DELTA_EULER = "ee_delta_euler"
    EE_ABS = "ee_abs"
    JOINT_ABS = "joint_abs"
    JOINT_DELTA = "joint_delta"
    JOINT_VEL = "joint_vel"


class GripperPolarity(StrEnum):
    """Which end of the gripper's range means open."""

    ONE_IS_CLOSED = "one_is_closed"
    ONE_IS_OPEN = "one_is_open"


SUPPORTED = frozenset({ActionKind.EE_DELTA_ROTVEC, ActionKind.EE_DELTA_EULER})


class UnsupportedActionSpaceError(Exception):
    """The guard cannot check actions of this description, so the policy must not be served."""

    def __init__(self, field: str, fault: str) -> None:
        self.field = field
        self.fault = fault
        super().__init__(f"{field}: {fault}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpace:
    """End-effector deltas: x, y, z in metres, three rotation numbers in radians, then (unless names has six) the gripper.

    Raises UnsupportedActionSpaceError for anything else. Euler deltas may be in any of the six axis orders.
    """

    kind: ActionKind
    names: tuple[str, ...]
    units: tuple[str, ...]
    control_hz: float
    gripper_polarity: GripperPolarity | None

    def __post_init__(self) -> None:
        if self.kind not in SUPPORTED:
            raise UnsupportedActionSpaceError("kind", f"{self.kind!s} is not checked by this guard version")
        if len(self.names) not in (6, 7):
            raise UnsupportedActionSpaceError("names", f"6 or 7 columns are needed, not {len(self.names)}")
        if len(self.units) != len(self.names):
            raise UnsupportedActionSpaceError("units", f"{len(self.units)} units for {len(self.names)} columns")
        if self.units[:6] != ("m",) * 3 + ("rad",) * 3:
            raise UnsupportedActionSpaceError("units", "translation must be in m and rotation in rad")
        if self.has_gripper and self.units[GRIPPER] not in GRIPPER_UNITS:
            raise UnsupportedActionSpaceError("units", f"the gripper must be normalised, not in {self.units[GRIPPER]!r}")
        if self.has_gripper != (self.gripper_polarity is not None):
            raise UnsupportedActionSpaceError("gripper_polarity", "needed with a gripper column, and only then")
        if not (math.isfinite(self.control_hz) and 0 < self.control_hz <= CONTROL_HZ_MAX):
            raise UnsupportedActionSpaceError("control_hz", f"above 0 and up to {CONTROL_HZ_MAX:g} is needed")

    @property
    def width(self) -> int:
        """Numbers per step."""
        return len(self.names)

    @property
    def has_gripper(self) -> bool:
        """True when the last column commands a gripper."""
        return len(self.names) > GRIPPER
