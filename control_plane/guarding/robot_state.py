"""Which numbers of a policy's state are joint positions, an end effector's place or a gripper: only where name and unit say so.

    joint_1 … joint_n, left_joint_1 …     rad   → q
    ee_x, ee_y, ee_z, left_ee_x …         m     → ee_position, in the robot's base frame
    gripper, left_gripper …               as the action's own gripper columns → gripper

Two arms: the left one first. Whatever is named otherwise, or incompletely, is not known to the guard; nothing is converted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control_plane.guarding.fields import StateFields
from export.contract.manifest import Manifest
from safety.context import RobotState
from safety.robot import RobotProfile

_COLUMN = re.compile(r"(?:(?P<arm>left|right)_)?(?:joint_(?P<joint>[1-9]\d?)|ee_(?P<axis>[xyz])|(?P<gripper>gripper))")
_UNITS = {"joint": "rad", "axis": "m"}
_GRIPPER = "gripper"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateColumns:
    """Where in the policy's state each quantity stands; None where it does not tell it."""

    q: tuple[int, ...] | None = None
    ee_position: tuple[int, ...] | None = None
    gripper: tuple[int, ...] | None = None

    def fitting(self, profile: RobotProfile) -> "StateColumns":
        """Those that this robot can have: another number of joints or arms is somebody else's state, so it is not known."""
        return StateColumns(
            q=self.q if self.q is not None and len(self.q) == profile.arms * profile.joints_per_arm else None,
            ee_position=self.ee_position if self.ee_position is not None and len(self.ee_position) == 3 * profile.arms else None,
            gripper=self.gripper if self.gripper is not None and len(self.gripper) == profile.arms else None,
        )

    def field_of(self, path: str) -> str | None:
        """The request's name of the guard's `state.q[3]`: `state[3]`. None where the policy's state does not tell it."""
        found = re.fullmatch(r"state\.(q|ee_position|gripper)(?:\[(\d+)\])?", path)
        if found is None:
            return None
        columns: tuple[int, ...] | None = getattr(self, found[1])
        if columns is None:
            return None
        return f"state[{columns[int(found[2])]}]" if found[2] and int(found[2]) < len(columns) else "state"


def columns_of(manifest: Manifest) -> StateColumns:
    """What this policy's state tells."""
    spec = manifest.state
    if spec is None:
        return StateColumns()
    places: dict[tuple[str, str, str], int] = {}
    gripper_units = {unit for name, unit in zip(manifest.action.names, manifest.action.units, strict=True) if _GRIPPER in name}
    for index, (name, unit) in enumerate(zip(spec.names, spec.units, strict=True)):
        found = _COLUMN.fullmatch(name)
        kind = next((kind for kind in ("joint", "axis", _GRIPPER) if found is not None and found[kind]), None)
        if found is not None and kind is not None and (unit in gripper_units if kind == _GRIPPER else unit == _UNITS[kind]):
            places[found["arm"] or "", kind, found[kind]] = index
    arms = ("left", "right") if any(arm for arm, _, _ in places) else ("",)
    return StateColumns(
        q=_joints(places, arms),
        ee_position=_all(places, [(arm, "axis", axis) for arm in arms for axis in "xyz"]),
        gripper=_all(places, [(arm, _GRIPPER, _GRIPPER) for arm in arms]),
    )


def _joints(places: dict[tuple[str, str, str], int], arms: Sequence[str]) -> tuple[int, ...] | None:
    counts = {sum(1 for key in places if key[:2] == (arm, "joint")) for arm in arms}
    if len(counts) != 1 or 0 in counts:
        return None
    (count,) = counts
    return _all(places, [(arm, "joint", str(joint)) for arm in arms for joint in range(1, count + 1)])


def _all(places: dict[tuple[str, str, str], int], wanted: Sequence[tuple[str, str, str]]) -> tuple[int, ...] | None:
    return tuple(places[key] for key in wanted) if all(key in places for key in wanted) else None


def robot_state(
    columns: StateColumns, sent: NDArray[np.float32] | None, told: StateFields | None
) -> tuple[RobotState | None, str | None]:
    """The state for the guard, and the field that was given twice (then there is no state)."""
    values: dict[str, list[float]] = {}
    for name in ("q", "ee_position", "gripper"):
        own: tuple[int, ...] | None = getattr(columns, name)
        if own is not None and sent is not None:
            values[name] = [float(sent[index]) for index in own]
        extra: list[float] | None = None if told is None else getattr(told, name)
        if extra is not None:
            if name in values:
                return None, f"safety.state.{name}"
            values[name] = extra
    if not values:
        return None, None
    return RobotState(q=values.get("q"), ee_position=values.get("ee_position"), gripper=values.get("gripper")), None
