"""What the columns of an action are called and measured in: OpenVLA's own seven, or what the operator says.

A checkpoint does not say it. Seven columns are the Open X-Embodiment convention that OpenVLA was trained on; any other number
without a stated kind gets units that no guard accepts, so that it can be exported and proven but moves no robot. Called by
`policy`.
"""

from dataclasses import dataclass

from export.contract.facts import ActionKind, GripperPolarity
from export.contract.statistics import Bounds
from export.policies.adapter import CheckpointError

_POSE = ("dx", "dy", "dz", "droll", "dpitch", "dyaw")
_POSE_UNITS = ("m", "m", "m", "rad", "rad", "rad")
_JOINT_UNITS = {ActionKind.JOINT_ABS: "rad", ActionKind.JOINT_DELTA: "rad", ActionKind.JOINT_VEL: "rad/s"}
_UNSTATED = "unstated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Kind, names and units of an action's numbers."""

    kind: ActionKind
    names: tuple[str, ...]
    units: tuple[str, ...]
    frame: str
    gripper_polarity: GripperPolarity | None


def describe(kind: ActionKind | None, statistics: tuple[Bounds, ...]) -> Columns:
    """The columns of actions with these statistics. Raises CheckpointError when `kind` cannot have so many."""
    count = statistics[0].length
    if kind is None and count != len(_POSE) + 1:
        names = tuple(f"column_{index}" for index in range(1, count + 1))
        return _columns(ActionKind.JOINT_ABS, names, (_UNSTATED,) * count, has_gripper=False)
    if kind in _JOINT_UNITS:
        has_gripper = not any(one.mask[-1] for one in statistics)
        joints = count - has_gripper
        return _columns(
            kind,
            tuple(f"joint_{index}" for index in range(1, joints + 1)),
            (_JOINT_UNITS[kind],) * joints,
            has_gripper=has_gripper,
        )
    if count not in (len(_POSE), len(_POSE) + 1):
        raise CheckpointError(f"actions have {count} numbers, {kind} has 6 or 7; say another --kind, or choose other unnorm keys")
    names = _POSE if kind is not ActionKind.EE_ABS else tuple(name.removeprefix("d") for name in _POSE)
    return _columns(kind or ActionKind.EE_DELTA_EULER, names, _POSE_UNITS, has_gripper=count > len(_POSE))


def _columns(kind: ActionKind, names: tuple[str, ...], units: tuple[str, ...], *, has_gripper: bool) -> Columns:
    return Columns(
        kind=kind,
        names=(*names, "gripper") if has_gripper else names,
        units=(*units, "fraction") if has_gripper else units,
        frame="joints" if kind in _JOINT_UNITS else "robot_base",
        gripper_polarity=GripperPolarity.ONE_IS_OPEN if has_gripper else None,
    )
