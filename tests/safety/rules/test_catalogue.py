"""Which rules a guard has for each kind of action, and that what it lacks is named with a reason."""

from dataclasses import replace

import numpy as np
import pytest

from safety.action_space import ActionKind, ActionSpace, UnsupportedActionSpaceError
from safety.guard import Guard
from safety.layering import base_policy
from safety.profile import Preset, load_profile
from safety.rules.catalogue import RuleSet, rule_set
from safety.rules.gripper import GripperRange
from safety.rules.names import ALL_RULES, G1
from safety.rules.rule import Severity, Standing, evidence_of
from safety.verdict import NotEvaluated, RuleStatus
from tests.safety.factories import action_space, joint_space, panda, pose_space

A = ("A1", "A2", "A3", "A4")
EE = ("B4", "B7", "C4", "C5", "C6", "F2")
LAST = ("B8", "H1", "D0")
SESSION = ("D8", "E1", "E2", "E3", "E4", "E5", "E6", "F1")
MANNER = ("B4", "B7", "C2", "C3", "C4", "C5", "C6", "F2")
BODY = ("D2", "D4", "D5", "D6", "D7")
APPLICABLE = {
    ActionKind.EE_DELTA_ROTVEC: (*A, "B1", "B2", *EE, *LAST, "D2", "D3", "D5", *SESSION),
    ActionKind.EE_DELTA_EULER: (*A, "B1", "B2", *EE, *LAST, "D2", "D3", "D5", *SESSION),
    ActionKind.EE_ABS: (*A, "B1", "B2", "B6", *EE, "D1", "D2", "D5", *LAST, *SESSION),
    ActionKind.JOINT_ABS: (*A, "C1", "B5", *MANNER, "D1", *BODY, *LAST, *SESSION),
    ActionKind.JOINT_DELTA: (*A, "B3", *MANNER, *LAST, "B5", *BODY, *SESSION),
    ActionKind.JOINT_VEL: (*A, "B3", *MANNER, *LAST, "B5", *BODY, *SESSION),
}


def space_of(kind: ActionKind) -> ActionSpace:
    if kind is ActionKind.EE_ABS:
        return pose_space()
    return joint_space(kind) if kind.value.startswith("joint") else action_space(kind)


def rules_for(step_max: float | None = None, *, has_gripper: bool = True) -> RuleSet:
    profile = panda(step_max=step_max)
    return rule_set(action_space(has_gripper=has_gripper), profile, base_policy(profile, Preset.REDUCED))


@pytest.mark.parametrize("kind", list(ActionKind))
def test_every_kind_has_its_rules_in_this_order(kind: ActionKind) -> None:
    verdict = Guard(panda(), Preset.REDUCED, space_of(kind)).check(None)
    assert tuple(result.id[:2] for result in verdict.rules) == APPLICABLE[kind]


def test_every_rule_of_the_catalogue_but_the_instructions_is_somewhere() -> None:
    found = {name for names in APPLICABLE.values() for name in names}
    assert found == {rule[:2] for rule in ALL_RULES if rule != G1}


@pytest.mark.parametrize("kind", list(ActionKind))
def test_what_is_passed_over_without_a_context_could_not_look(kind: ActionKind) -> None:
    rules = rule_set(space_of(kind), panda(), base_policy(panda(), Preset.REDUCED))
    for seed in range(3):
        numbers = np.random.default_rng(seed).uniform(-1, 1, (8, space_of(kind).width)).astype(np.float32)
        statuses = {rule.evaluate(evidence_of(numbers)).status for rule in rules.stateful}
        assert statuses == {RuleStatus.NOT_EVALUATED}


def test_without_a_gripper_no_gripper_rule_applies() -> None:
    ids = {rule.id[:2] for rule in rules_for(has_gripper=False).motion}
    assert not ids & {"B4", "B7", "C5"}


def test_every_rule_that_clamps_has_something_that_enforces_it() -> None:
    for kind in ActionKind:
        rules = rule_set(space_of(kind), panda(step_max=0.2), base_policy(panda(step_max=0.2), Preset.REDUCED))
        clamping = {rule.id for rule in (*rules.motion, *rules.stateful) if rule.severity is Severity.CLAMP}
        assert clamping <= {rule for clamp in rules.clamps for rule in clamp.enforces}


def test_a_limit_that_nobody_published_is_said_not_guessed() -> None:
    profile = load_profile("viperx_300s")
    policy = base_policy(profile, Preset.MANUFACTURER)
    assert (policy.limits.linear_speed_m_per_s, policy.limits.angular_speed_rad_per_s) == (None, None)
    stand_ins = [rule for rule in rule_set(action_space(), profile, policy).motion if isinstance(rule, Standing)]
    assert [rule.id[:2] for rule in stand_ins] == ["B1", "B2", "B7", "C6", "F2"]
    assert {rule.result.reason for rule in stand_ins} == {NotEvaluated.LIMIT_UNPUBLISHED}


def test_absolute_poses_without_a_speed_limit_say_so_too() -> None:
    guard = Guard(load_profile("viperx_300s"), Preset.MANUFACTURER, pose_space())
    poses = np.tile(np.array([0.3, 0, 0.3, 0, 0, 0, 1, 0.5], dtype=np.float32), (4, 1))
    reasons = {result.id[:2]: result.reason for result in guard.check(poses).rules}
    assert {reasons["B1"], reasons["B2"], reasons["D1"]} == {NotEvaluated.LIMIT_UNPUBLISHED}


def test_a_gripper_end_that_float32_cannot_hold_is_rounded_inward() -> None:
    policy = base_policy(panda(), Preset.REDUCED)
    narrow = replace(policy, limits=replace(policy.limits, gripper_range=(0.7, 0.8)))
    in_range = next(rule for rule in rule_set(action_space(), panda(), narrow).motion if isinstance(rule, GripperRange))
    assert float(np.float32(0.7)) < 0.7 < in_range.low == float(np.float32(in_range.low))
    assert float(np.float32(0.8)) > 0.8 > in_range.high == float(np.float32(in_range.high))
    assert (in_range.low, in_range.high) == pytest.approx((0.7, 0.8), abs=1e-7)


@pytest.mark.parametrize(("preset", "limits"), [(Preset.REDUCED, [0.25, 1.25]), (Preset.MANUFACTURER, [1.7, 2.5])])
def test_the_limits_of_the_preset_reach_the_rules(preset: Preset, limits: list[float]) -> None:
    rules = rule_set(action_space(), panda(), base_policy(panda(), preset)).motion
    assert [getattr(rule, "limit", None) for rule in rules[:2]] == limits


@pytest.mark.parametrize("kind", [ActionKind.JOINT_ABS, ActionKind.JOINT_VEL])
def test_a_policy_with_other_joints_than_the_robot_is_refused_when_it_is_loaded(kind: ActionKind) -> None:
    with pytest.raises(UnsupportedActionSpaceError, match="ur5e has 6 joints"):
        Guard(load_profile("ur5e"), Preset.REDUCED, joint_space(kind, joints=7))


def test_a_policy_with_other_arms_than_the_robot_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(UnsupportedActionSpaceError, match="1 arms for a robot with 2"):
        Guard(load_profile("aloha"), Preset.REDUCED, joint_space(joints=6))


def test_translations_in_another_frame_lead_nowhere_that_is_known() -> None:
    guard = Guard(load_profile("xarm7"), Preset.REDUCED, action_space(frame="tool"))
    reasons = {result.id[:2]: result.reason for result in guard.check(None).rules}
    assert (reasons["D2"], reasons["D3"]) == (NotEvaluated.NOT_APPLICABLE, NotEvaluated.NOT_APPLICABLE)


def test_without_kinematics_what_needs_them_says_so() -> None:
    profile = replace(load_profile("xarm7"), kinematics=None)
    joints = {result.id[:2]: result.reason for result in Guard(profile, Preset.REDUCED, joint_space()).check(None).rules}
    assert {joints["D2"], joints["D5"], joints["D6"], joints["D7"]} == {NotEvaluated.NO_GEOMETRY}
    deltas = {result.id[:2]: result.reason for result in Guard(profile, Preset.REDUCED, action_space()).check(None).rules}
    assert deltas["D3"] is NotEvaluated.NO_GEOMETRY


def test_where_no_braking_is_published_stopping_is_not_looked_at() -> None:
    reasons = {
        result.id[:2]: result.reason
        for result in Guard(load_profile("ur5e"), Preset.REDUCED, joint_space(joints=6)).check(None).rules
    }
    assert {reasons["C2"], reasons["C3"], reasons["D4"]} == {NotEvaluated.LIMIT_UNPUBLISHED}
