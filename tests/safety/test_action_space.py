"""What the guard cannot check refuses when a policy is loaded, and names the field."""

from dataclasses import replace
from typing import Any

import pytest

from safety.action_space import (
    EE_DELTAS,
    JOINTS,
    ActionKind,
    ActionSpace,
    GripperPolarity,
    Group,
    RotationForm,
    UnsupportedActionSpaceError,
)
from tests.safety.factories import action_space, joint_space, pose_space

TWICE = ("m", "m", "m", "rad", "rad", "rad") * 2


@pytest.mark.parametrize("kind", sorted(EE_DELTAS))
@pytest.mark.parametrize("has_gripper", [True, False])
def test_end_effector_deltas_with_or_without_a_gripper_are_accepted(kind: ActionKind, has_gripper: bool) -> None:
    space = action_space(kind, has_gripper=has_gripper)
    assert (space.width, space.has_gripper) == (7 if has_gripper else 6, has_gripper)
    assert space.groups == (Group(name="", start=0, stop=6, gripper=6 if has_gripper else None),)


@pytest.mark.parametrize("kind", sorted(JOINTS))
def test_joints_in_radians_are_accepted_for_one_arm_and_for_two(kind: ActionKind) -> None:
    assert joint_space(kind, has_gripper=False).groups == (Group(name="", start=0, stop=7, gripper=None),)
    left, right = joint_space(kind, joints=6, arms=2).groups
    assert (left, right) == (Group(name="left", start=0, stop=6, gripper=6), Group(name="right", start=7, stop=13, gripper=13))


@pytest.mark.parametrize("form", list(RotationForm))
def test_a_pose_names_the_form_of_its_rotation(form: RotationForm) -> None:
    space = pose_space(form)
    assert space.rotation_form is form
    assert space.groups[0].rotation == slice(3, space.width - 1)


@pytest.mark.parametrize("kind", ["ee_spline", "", None])
def test_other_kinds_are_refused_when_the_policy_is_loaded(kind: Any) -> None:
    with pytest.raises(UnsupportedActionSpaceError, match="not checked by this guard version") as caught:
        replace(action_space(), kind=kind)
    assert caught.value.field == "kind"


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("left_a", "right_a", "b"), "in every name"),
        (("left_a", "left_b", "right_a"), "in every name"),
        (("right_a", "left_a"), "come first"),
        ((), "1 to 8 joints"),
        (tuple("abcdefghi"), "1 to 8 joints"),
    ],
)
def test_two_arms_are_told_by_their_names_and_nothing_else(names: tuple[str, ...], fault: str) -> None:
    with pytest.raises(UnsupportedActionSpaceError, match=fault):
        replace(joint_space(has_gripper=False), names=names, units=("rad",) * len(names))


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("x", "y", "z", "qx", "qy", "qz", "w", "gripper"), "by its usual names"),
        (("x", "z", "y", "qx", "qy", "qz", "qw", "gripper"), "by its usual names"),
    ],
)
def test_a_rotation_by_other_names_is_not_guessed(names: tuple[str, ...], fault: str) -> None:
    with pytest.raises(UnsupportedActionSpaceError, match=fault):
        replace(pose_space(), names=names)


def test_both_arms_write_their_rotations_alike() -> None:
    left = tuple(f"left_{name}" for name in ("x", "y", "z", "rx", "ry", "rz"))
    right = tuple(f"right_{name}" for name in ("x", "y", "z", "roll", "pitch", "yaw"))
    alike = replace(pose_space(), gripper_polarity=None, names=left + tuple(f"right_{n[5:]}" for n in left), units=TWICE)
    assert len(alike.groups) == 2
    with pytest.raises(UnsupportedActionSpaceError, match="alike"):
        replace(alike, names=left + right)


@pytest.mark.parametrize("unit", ["deg", "rad/s", "m"])
def test_joints_in_another_unit_are_refused(unit: str) -> None:
    space = joint_space(has_gripper=False)
    with pytest.raises(UnsupportedActionSpaceError, match="joints must be in rad"):
        replace(space, units=(unit,) * 7)
    with pytest.raises(UnsupportedActionSpaceError, match="rad/s"):
        replace(joint_space(ActionKind.JOINT_VEL, has_gripper=False), units=("rad",) * 7)


@pytest.mark.parametrize("ranges", [((0.0, 1.0),), ((1.0, 0.0),) * 7, ((0.0, float("nan")),) * 7])
def test_a_training_range_that_is_none_is_refused(ranges: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(UnsupportedActionSpaceError) as caught:
        replace(action_space(), training_range=ranges)
    assert caught.value.field == "training_range"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"names": ("x",) * 8, "units": ("m",) * 8}, "names"),
        ({"names": (), "units": ()}, "names"),
        ({"units": ("m",) * 6}, "units"),
        ({"units": ("mm", "mm", "mm", "rad", "rad", "rad", "1")}, "units"),
        ({"units": ("m", "m", "m", "deg", "deg", "deg", "1")}, "units"),
        ({"units": ("m", "m", "m", "rad", "rad", "rad", "m")}, "units"),
        ({"units": ("rad", "rad", "rad", "m", "m", "m", "1")}, "units"),
        ({"gripper_polarity": None}, "gripper_polarity"),
        ({"control_hz": 0.0}, "control_hz"),
        ({"control_hz": -5.0}, "control_hz"),
        ({"control_hz": float("nan")}, "control_hz"),
        ({"control_hz": float("inf")}, "control_hz"),
        ({"control_hz": 1001.0}, "control_hz"),
    ],
)
def test_a_convention_that_the_guard_cannot_check_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedActionSpaceError) as caught:
        replace(action_space(), **change)
    assert caught.value.field == field


def test_a_polarity_without_a_gripper_is_a_contradiction() -> None:
    arm = action_space(has_gripper=False)
    with pytest.raises(UnsupportedActionSpaceError, match="only then"):
        ActionSpace(
            kind=arm.kind,
            names=arm.names,
            units=arm.units,
            control_hz=arm.control_hz,
            gripper_polarity=GripperPolarity.ONE_IS_OPEN,
        )
