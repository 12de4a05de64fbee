"""What the guard cannot check refuses when a policy is loaded, and names the field."""

from dataclasses import replace
from typing import Any

import pytest

from safety.action_space import SUPPORTED, ActionKind, ActionSpace, GripperPolarity, UnsupportedActionSpaceError
from tests.safety.factories import action_space


@pytest.mark.parametrize("kind", sorted(SUPPORTED))
@pytest.mark.parametrize("has_gripper", [True, False])
def test_end_effector_deltas_with_or_without_a_gripper_are_accepted(kind: ActionKind, has_gripper: bool) -> None:
    space = action_space(kind, has_gripper=has_gripper)
    assert (space.width, space.has_gripper) == (7 if has_gripper else 6, has_gripper)


@pytest.mark.parametrize("kind", sorted(set(ActionKind) - SUPPORTED))
def test_other_kinds_are_refused_when_the_policy_is_loaded(kind: ActionKind) -> None:
    with pytest.raises(UnsupportedActionSpaceError, match="not checked by this guard version") as caught:
        action_space(kind)
    assert caught.value.field == "kind"


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
