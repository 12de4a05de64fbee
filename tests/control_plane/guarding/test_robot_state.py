"""Only what names and units say becomes a state; everything else is not known."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from control_plane.guarding.fields import StateFields
from control_plane.guarding.robot_state import StateColumns, columns_of, robot_state
from export.contract.manifest import Manifest, load_manifest
from safety.profile import load_profile
from tests.control_plane.fakes import ROOT

JOINTS = [(f"joint_{index}", "rad") for index in range(1, 8)]


def manifest(*columns: tuple[str, str], gripper_unit: str = "fraction") -> Manifest:
    """What `columns_of` reads of one."""
    names, units = zip(*columns, strict=True)
    action = SimpleNamespace(names=("dx", "gripper"), units=("m", gripper_unit))
    return cast(Manifest, SimpleNamespace(state=SimpleNamespace(names=names, units=units), action=action))


def test_the_shipped_policy_tells_its_joints_and_not_its_gripper() -> None:
    found = columns_of(load_manifest(ROOT / "model_repository" / "tabletop"))
    assert found == StateColumns(q=(0, 1, 2, 3, 4, 5, 6), ee_position=None, gripper=None)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([*JOINTS, ("gripper", "fraction")], StateColumns(q=tuple(range(7)), gripper=(7,))),
        ([("gripper", "m"), *JOINTS], StateColumns(q=tuple(range(1, 8)))),
        ([("joint_2", "rad"), ("joint_1", "rad")], StateColumns(q=(1, 0))),
        ([("joint_1", "deg"), ("joint_2", "deg")], StateColumns()),
        ([("joint_1", "rad"), ("joint_3", "rad")], StateColumns()),
        ([("joint_0", "rad"), ("joint_1", "rad")], StateColumns(q=(1,))),
        ([("ee_z", "m"), ("ee_x", "m"), ("ee_y", "m")], StateColumns(ee_position=(1, 2, 0))),
        ([("ee_x", "mm"), ("ee_y", "mm"), ("ee_z", "mm")], StateColumns()),
        ([("ee_x", "m"), ("ee_y", "m")], StateColumns()),
        ([("x", "m"), ("y", "m"), ("z", "m")], StateColumns()),
        ([("right_joint_1", "rad"), ("left_joint_1", "rad")], StateColumns(q=(1, 0))),
        ([("left_joint_1", "rad")], StateColumns()),
        ([("left_joint_1", "rad"), ("right_joint_1", "rad"), ("right_joint_2", "rad")], StateColumns()),
    ],
)
def test_names_and_units_decide(columns: list[tuple[str, str]], expected: StateColumns) -> None:
    assert columns_of(manifest(*columns)) == expected


def test_a_state_of_another_number_of_joints_or_arms_is_not_known() -> None:
    panda, aloha = load_profile("franka_panda"), load_profile("aloha")
    seven = StateColumns(q=tuple(range(7)), ee_position=(7, 8, 9), gripper=(10,))
    assert seven.fitting(panda) == seven
    assert seven.fitting(aloha) == StateColumns()
    assert StateColumns(q=tuple(range(6))).fitting(panda) == StateColumns()
    both = StateColumns(q=tuple(range(12)), ee_position=tuple(range(6)), gripper=(0, 1))
    assert both.fitting(aloha) == both


def test_the_numbers_are_those_that_were_sent() -> None:
    sent = np.arange(8, dtype=np.float32)
    state, twice = robot_state(StateColumns(q=(1, 0), ee_position=(2, 3, 4)), sent, None)
    assert state is not None
    assert twice is None
    assert (state.q, state.ee_position, state.gripper) == ([1.0, 0.0], [2.0, 3.0, 4.0], None)


def test_what_the_policy_does_not_take_may_be_told_beside_it_and_nothing_twice() -> None:
    columns = StateColumns(q=(0,))
    told = StateFields(ee_position=[0.1, 0.2, 0.3], gripper=[1.0])
    state, twice = robot_state(columns, np.zeros(1, np.float32), told)
    assert state is not None
    assert twice is None
    assert (state.q, state.ee_position, state.gripper) == ([0.0], [0.1, 0.2, 0.3], [1.0])
    assert robot_state(columns, np.zeros(1, np.float32), StateFields(q=[0.0]))[1] == "safety.state.q"
    alone, _ = robot_state(columns, None, StateFields(q=[0.5]))
    assert alone is not None
    assert alone.q == [0.5]


def test_without_any_number_there_is_no_state() -> None:
    nothing: tuple[Any, ...] = (None, StateFields())
    assert [robot_state(StateColumns(), None, told) for told in nothing] == [(None, None), (None, None)]
    assert robot_state(StateColumns(), np.zeros(3, np.float32), None) == (None, None)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("state.q[1]", "state[5]"),
        ("state.q", "state"),
        ("state.q[7]", "state"),
        ("state.gripper", None),
        ("seq", None),
    ],
)
def test_a_complaint_names_the_field_as_it_was_sent(path: str, field: str | None) -> None:
    assert StateColumns(q=(4, 5)).field_of(path) == field
