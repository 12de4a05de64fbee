"""Which rules a guard has, and that what it lacks is named with a reason."""

import numpy as np
import pytest

from safety.action_space import ActionKind
from safety.guard import Guard
from safety.profile import Limits, Preset, limits_for
from safety.rules.catalogue import LATER, motion_rules, rule_set
from safety.rules.gripper import GripperRange
from safety.rules.rule import ClampingRule, Severity, Unpublished
from safety.verdict import NotEvaluated
from tests.safety.factories import action_space, chunk, panda

LIMITS = Limits(
    linear_speed_m_per_s=0.25,
    angular_speed_rad_per_s=1.25,
    joint_speed_rad_per_s=(1.0,) * 7,
    gripper_range=(0.0, 1.0),
    gripper_step_max=0.25,
)


@pytest.mark.parametrize("kind", [ActionKind.EE_DELTA_ROTVEC, ActionKind.EE_DELTA_EULER])
def test_end_effector_deltas_have_these_rules_in_this_order(kind: ActionKind) -> None:
    ids = [rule.id for rule in motion_rules(action_space(kind), LIMITS)]
    assert ids == ["B1.ee_linear_speed", "B2.ee_angular_speed", "B4.gripper_range", "B7.dim_step"]


def test_without_a_gripper_no_gripper_rule_applies() -> None:
    rules = rule_set(action_space(has_gripper=False), LIMITS)
    assert [rule.id for rule in rules.motion] == ["B1.ee_linear_speed", "B2.ee_angular_speed"]
    assert "C5.gripper_chatter" not in {result.id for result in rules.later}


def test_every_rule_that_clamps_can() -> None:
    for rule in motion_rules(action_space(), LIMITS):
        assert rule.severity is Severity.CLAMP
        assert isinstance(rule, ClampingRule)


def test_a_limit_that_nobody_published_is_said_not_guessed() -> None:
    unknown = Limits(
        linear_speed_m_per_s=None,
        angular_speed_rad_per_s=None,
        joint_speed_rad_per_s=(),
        gripper_range=(0.0, 1.0),
        gripper_step_max=None,
    )
    rules = motion_rules(action_space(), unknown)
    stand_ins = [rule for rule in rules if isinstance(rule, Unpublished)]
    assert [rule.id for rule in stand_ins] == ["B1.ee_linear_speed", "B2.ee_angular_speed", "B7.dim_step"]
    assert {rule.result.reason for rule in stand_ins} == {NotEvaluated.LIMIT_UNPUBLISHED}


def test_no_rule_is_both_here_and_later() -> None:
    guard = Guard(panda(), Preset.REDUCED, action_space())
    ids = [result.id for result in guard.check(chunk()).rules]
    assert len(set(ids)) == len(ids)
    assert {rule_id for rule_id, _ in LATER} < set(ids)


def test_a_gripper_end_that_float32_cannot_hold_is_rounded_inward() -> None:
    limits = Limits(
        linear_speed_m_per_s=0.25,
        angular_speed_rad_per_s=1.25,
        joint_speed_rad_per_s=(),
        gripper_range=(0.7, 0.8),
        gripper_step_max=None,
    )
    in_range = motion_rules(action_space(), limits)[2]
    assert isinstance(in_range, GripperRange)
    assert float(np.float32(0.7)) < 0.7 < in_range.low == float(np.float32(in_range.low))
    assert float(np.float32(0.8)) > 0.8 > in_range.high == float(np.float32(in_range.high))
    assert (in_range.low, in_range.high) == pytest.approx((0.7, 0.8), abs=1e-7)


def test_the_limits_of_the_preset_reach_the_rules() -> None:
    reduced = motion_rules(action_space(), limits_for(panda(), Preset.REDUCED))
    manufacturer = motion_rules(action_space(), limits_for(panda(), Preset.MANUFACTURER))
    assert [getattr(rule, "limit", None) for rule in reduced[:2]] == [0.25, 1.25]
    assert [getattr(rule, "limit", None) for rule in manufacturer[:2]] == [1.7, 2.5]
