"""Layers tighten, say so where they would not, and leave something."""

from dataclasses import replace
from typing import Any

import pytest

from safety.calibration import Thresholds
from safety.guard import Guard
from safety.instruction import InstructionMode, InstructionPolicy
from safety.layering import GuardPolicy, Layer, LayerError, base_policy, layered
from safety.profile import Preset, load_profile
from safety.workspace import Box, EmptyWorkspaceError, HalfSpace
from tests.safety.factories import action_space, chunk, panda

BOX = Box(low_m=(-0.5, -0.5, 0.0), high_m=(0.8, 0.5, 1.0))


def base(robot: str = "franka_panda") -> GuardPolicy:
    return base_policy(load_profile(robot), Preset.REDUCED)


def layer(**wanted: Any) -> Layer:
    return Layer(name="org:acme@3", **wanted)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"linear_speed_m_per_s": 0.3}, "linear_speed_m_per_s"),
        ({"angular_speed_rad_per_s": 2.0}, "angular_speed_rad_per_s"),
        ({"joint_speed_rad_per_s": (1.0,) * 6 + (2.0,)}, "joint_speed_rad_per_s[6]"),
        ({"joint_speed_rad_per_s": (1.0,) * 6}, "joint_speed_rad_per_s"),
        ({"joint_min_rad": (-2.9,) + (0.0,) * 6}, "joint_min_rad[0]"),
        ({"joint_max_rad": (2.9,) + (0.0,) * 6}, "joint_max_rad[0]"),
        ({"gripper_range": (-0.1, 1.0)}, "gripper_range[0]"),
        ({"gripper_range": (0.0, 1.1)}, "gripper_range[1]"),
        ({"min_prefix": 1}, "min_prefix"),
        ({"workspace": Box(low_m=(-0.6, -0.5, 0), high_m=(0.8, 0.5, 1))}, "workspace.low_m.x"),
        ({"workspace": Box(low_m=(-0.5, -0.5, 0), high_m=(0.8, 0.5, 1.1))}, "workspace.high_m.z"),
        ({"staleness_max_ms": 600.0}, "staleness_max_ms"),
        ({"disabled_rules": frozenset({"D2"})}, "disabled_rules"),
        ({"disabled_rules": frozenset({"C4"})}, "disabled_rules"),
    ],
)
def test_what_would_loosen_names_its_field(wanted: dict[str, Any], field: str) -> None:
    above = layered(base(), layer(workspace=BOX, staleness_max_ms=500.0, required_rules=frozenset({"C4"})))
    with pytest.raises(LayerError) as caught:
        layered(above, layer(**wanted))
    assert (caught.value.field, caught.value.layer) == (field, "org:acme@3")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"linear_speed_m_per_s": 0.0}, "linear_speed_m_per_s"),
        ({"linear_speed_m_per_s": float("nan")}, "linear_speed_m_per_s"),
        ({"staleness_max_ms": -1.0}, "staleness_max_ms"),
        ({"joint_speed_rad_per_s": (0.0,) * 7}, "joint_speed_rad_per_s[0]"),
        ({"joint_min_rad": (float("inf"),) * 7}, "joint_min_rad[0]"),
        ({"joint_min_rad": (2.0,) + (0.0,) * 6, "joint_max_rad": (1.0,) + (0.1,) * 6}, "joint_max_rad[0]"),
        ({"gripper_range": (0.6, 0.4)}, "gripper_range"),
        ({"min_prefix": 0}, "min_prefix"),
        ({"required_rules": frozenset({"Z9"})}, "required_rules"),
        ({"refuse_on_warning": frozenset({"A1"})}, "refuse_on_warning"),
        ({"required_rules": frozenset({"C4"}), "disabled_rules": frozenset({"C4"})}, "disabled_rules"),
        ({"workspace": Box(low_m=(2, 2, 2), high_m=(3, 3, 3))}, "workspace"),
    ],
)
def test_what_contradicts_itself_or_leaves_nothing_names_its_field(wanted: dict[str, Any], field: str) -> None:
    with pytest.raises(LayerError) as caught:
        layered(layered(base(), layer(workspace=BOX)), layer(**wanted), is_strict=False)
    assert caught.value.field == field


def test_a_rule_that_is_switched_off_cannot_be_required_below() -> None:
    above = layered(base(), layer(disabled_rules=frozenset({"C4"})))
    with pytest.raises(LayerError, match="switched off above"):
        layered(above, layer(refuse_on_warning=frozenset({"C4.oscillation"})))


def test_every_layer_takes_part() -> None:
    off = InstructionPolicy(mode=InstructionMode.OFF)
    half = HalfSpace(normal=(0.0, 0.0, -1.0), offset_m=0.0)
    policy = layered(
        base(),
        layer(linear_speed_m_per_s=0.2, workspace=BOX, required_rules=frozenset({"D2"}), instruction=off),
        Layer(name="deploy:7", workspace=Box(low_m=(0, float("-inf"), 0), high_m=(float("inf"), 0.4, 0.9)), half_spaces=(half,)),
        Layer(name="request", keep_outs=(BOX,), surfaces=(half,), min_prefix=4, staleness_max_ms=300.0, instruction=off),
    )
    assert policy.limits.linear_speed_m_per_s == 0.2
    assert policy.workspace.box == Box(low_m=(0, -0.5, 0), high_m=(0.8, 0.4, 0.9))
    assert (policy.workspace.half_spaces, policy.workspace.keep_outs, policy.workspace.surfaces) == ((half,), (BOX,), (half,))
    assert (policy.required_rules, policy.min_prefix, policy.staleness_max_ms) == (frozenset({"D2.workspace"}), 4, 300.0)
    assert policy.instruction == (off, off)
    assert policy.layers == ("org:acme@3", "deploy:7", "request")
    assert hash(policy) == hash(replace(policy))


def test_a_stored_layer_that_became_looser_counts_no_more() -> None:
    policy = layered(base(), layer(linear_speed_m_per_s=0.3, gripper_range=(-1.0, 0.8), min_prefix=1), is_strict=False)
    assert (policy.limits.linear_speed_m_per_s, policy.limits.gripper_range, policy.min_prefix) == (0.25, (0.0, 0.8), 2)


def test_a_limit_that_nobody_published_can_be_set() -> None:
    profile = load_profile("viperx_300s")
    policy = layered(base_policy(profile, Preset.MANUFACTURER), layer(linear_speed_m_per_s=0.5))
    assert policy.limits.linear_speed_m_per_s == 0.5


def test_joints_can_be_tightened_only_where_they_are_known() -> None:
    above = replace(base(), limits=replace(base().limits, joint_min_rad=()))
    with pytest.raises(LayerError, match="no such limits"):
        layered(above, layer(joint_min_rad=(0.0,) * 7))


def test_thresholds_are_set_once() -> None:
    fitted = Thresholds(policy="p", robot_type="franka_panda")
    above = layered(base(), layer(thresholds=fitted))
    assert above.thresholds is fitted
    with pytest.raises(LayerError, match="a layer above has set them"):
        layered(above, layer(thresholds=fitted))


def test_the_verdict_names_every_layer() -> None:
    policy = layered(base(), layer(), Layer(name="request"))
    assert (
        Guard(panda(), Preset.REDUCED, action_space(), policy=policy)
        .check(chunk())
        .profile.endswith("+preset:reduced+org:acme@3+request")
    )


def test_the_manufacturers_box_is_the_default_workspace() -> None:
    assert base("xarm7").workspace.box == Box(low_m=(-0.7, -0.7, -0.4), high_m=(0.7, 0.7, 0.9515))
    assert base().workspace.is_empty


@pytest.mark.parametrize(
    "ends", [((0, 0, 0), (0, 1, 1)), ((1, 0, 0), (0, 1, 1)), ((float("nan"), 0, 0), (1, 1, 1)), ((0, 0), (1, 1))]
)
def test_a_box_without_room_is_none(ends: tuple[Any, Any]) -> None:
    with pytest.raises(EmptyWorkspaceError):
        Box(low_m=ends[0], high_m=ends[1])


@pytest.mark.parametrize(
    ("normal", "offset"), [((0, 0, 2), 0), ((0, 0, 0), 0), ((0, 0, 1), float("inf")), ((float("nan"), 0, 1), 0)]
)
def test_a_half_space_without_direction_is_none(normal: Any, offset: float) -> None:
    with pytest.raises(EmptyWorkspaceError):
        HalfSpace(normal=normal, offset_m=offset)
