"""Joint actions: one scenario per hazard of speed, position and manner."""

from dataclasses import replace

import numpy as np
import pytest

from safety.action_space import ActionKind
from safety.context import Context, RobotState
from safety.guard import Guard
from safety.profile import Preset
from safety.verdict import Decision, NotEvaluated, RuleStatus
from tests.safety.factories import (
    action_space,
    chunk,
    joint_chunk,
    panda,
    panda_guard,
    rule,
)
from tests.safety.scenes import AT_READY, Q, deltas, guard


def test_a_jump_inside_a_chunk_is_followed_at_the_allowed_speed_until_the_arm_has_caught_up() -> None:
    jump = joint_chunk()
    jump[10:, 3] += 0.3
    verdict = guard().check(jump, AT_READY)
    assert (verdict.decision, verdict.limiting_rule) == (Decision.CLAMP, "C1.joint_velocity")
    assert rule(verdict, "C1.joint_velocity").at == (10, 3)
    assert rule(verdict, "C1.joint_velocity").message == "joint 4 would move at 3.05 rad/s at step 10; the limit is 1.0875"
    sent = verdict.actions.astype(np.float64)
    assert np.abs(np.diff(sent[:, 3])).max() * 10 == pytest.approx(1.0875, rel=1e-5)
    assert verdict.actions[:10].tobytes() == jump[:10].tobytes()
    assert verdict.actions[13:].tobytes() == jump[13:].tobytes()
    moved, wanted = sent[10, :7] - sent[9, :7], jump[10, :7].astype(np.float64) - sent[9, :7]
    assert moved @ wanted == pytest.approx(np.linalg.norm(moved) * np.linalg.norm(wanted), rel=1e-9)


def test_a_teleport_from_the_state_is_clamped_and_a_far_one_refused() -> None:
    far = joint_chunk()
    far[:, 0] += 0.25
    assert guard().check(far, AT_READY).limiting_rule == "D1.start_gap"
    assert guard().check(far).decision is Decision.PASS  # nobody said where the arm is
    far[:, 0] += 0.5
    verdict = guard().check(far, AT_READY)
    assert (verdict.decision, verdict.limiting_rule) == (Decision.REJECT, "A4.unit_suspect")


def test_a_full_turn_is_not_nothing() -> None:
    ur5e = guard(robot="ur5e")
    turned = np.zeros((4, 7), dtype=np.float32)
    turned[:, 0] = 6.1
    state = Context(state=RobotState(q=[-0.18, 0, 0, 0, 0, 0]))
    assert rule(ur5e.check(turned, state), "D1.start_gap").status is RuleStatus.REJECTED


def test_degrees_for_radians_are_refused() -> None:
    for kind in (ActionKind.JOINT_ABS, ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL):
        raw = joint_chunk() if kind is ActionKind.JOINT_ABS else deltas(speed=0.5, kind=kind)
        raw[:, :7] *= np.float32(57.2958)
        assert guard(kind).check(raw).decision is Decision.REJECT


def test_an_action_of_one_franka_is_not_one_of_the_other() -> None:
    straight = np.tile(np.array([0, -0.5, 0, -2, 0, 0.2, 0.7, 0.5], dtype=np.float32), (5, 1))
    assert guard().check(straight).decision is Decision.PASS
    assert guard(robot="franka_fr3").check(straight).limiting_rule == "B5.joint_position"


def test_an_old_calibration_of_the_so101_is_outside_the_new_one() -> None:
    folded = np.tile(np.array([0, -3.2, 3.0, 0, 0, 0.5], dtype=np.float32), (5, 1))
    assert guard(robot="so101").check(folded).decision is Decision.REJECT


def test_a_little_beyond_a_joints_end_is_put_to_the_end() -> None:
    beyond = joint_chunk(8)
    beyond[6:, 3] = -0.15
    beyond[:6, 3] = -0.2
    verdict = guard().check(beyond)
    assert (verdict.decision, verdict.limiting_rule) == (Decision.CLAMP, "B5.joint_position")
    assert verdict.actions[6:, 3].max() <= -0.0698 - 0.1
    assert rule(verdict, "B5.joint_position").message == "step 6 takes joint 4 to -0.15 rad; the limit is -0.1698"


@pytest.mark.parametrize(("way", "decision"), [(-1.0, Decision.PASS), (1.0, Decision.REJECT)])
@pytest.mark.parametrize("kind", [ActionKind.JOINT_ABS, ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL])
def test_from_outside_the_margin_the_way_in_is_open_and_the_way_out_is_not(
    kind: ActionKind, way: float, decision: Decision
) -> None:
    outside = Q.copy()
    outside[3] = -0.1
    step = np.zeros((8, 8), dtype=np.float32)
    step[:, 3], step[:, 7] = way * (0.1 if kind is ActionKind.JOINT_VEL else 0.01), 0.5
    if kind is ActionKind.JOINT_ABS:
        step[:, :7] = outside + np.cumsum(step[:, :7], axis=0)
    verdict = guard(kind).check(step, Context(state=RobotState(q=outside)))
    assert verdict.decision is decision
    if decision is Decision.REJECT:
        assert verdict.limiting_rule == "B8.too_much_clamping"


@pytest.mark.parametrize("kind", [ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL])
def test_deltas_are_scaled_with_and_without_a_known_start(kind: ActionKind) -> None:
    raw = deltas(kind=kind)
    raw[4, :7] *= 40
    for context in (Context(), AT_READY):
        verdict = guard(kind).check(raw, context)
        assert (verdict.decision, verdict.limiting_rule) == (Decision.CLAMP, "B3.joint_step_speed")
        assert np.delete(verdict.actions, 4, axis=0).tobytes() == np.delete(raw, 4, axis=0).tobytes()
        shares = verdict.actions[4, :7].astype(np.float64) / raw[4, :7]
        assert shares == pytest.approx(shares[0], rel=1e-6)


@pytest.mark.parametrize("kind", [ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL])
def test_deltas_that_lead_out_of_a_joint_end_at_its_end(kind: ActionKind) -> None:
    raw = deltas(12, speed=0.0, kind=kind)
    raw[:, 3] = 0.1 if kind is ActionKind.JOINT_VEL else 0.01
    near = Q.copy()
    near[3] = -0.0698 - 0.1 - 0.105
    verdict = guard(kind).check(raw, Context(state=RobotState(q=near)))
    assert (verdict.decision, verdict.limiting_rule) == (Decision.CLAMP, "B5.joint_position")
    rate = 0.1 if kind is ActionKind.JOINT_VEL else 1.0
    assert near[3] + verdict.actions[:, 3].astype(np.float64).sum() * rate <= -0.1698


def test_an_fr3_must_be_able_to_stop_before_its_end() -> None:
    fast = np.zeros((8, 8), dtype=np.float32)
    fast[:, :7] = (0, 1.3, 0, -1.5, 0, 2.0, 0)
    fast[:, 1] = 1.0 + np.arange(8, dtype=np.float32) * 0.09
    verdict = guard(robot="franka_fr3").check(fast)
    broken = rule(verdict, "D4.stopping_room")
    assert broken.status is RuleStatus.CLAMPED
    assert broken.message is not None
    assert "too fast to stop" in broken.message
    assert (broken.value or 0) > (broken.limit or 0)


def test_an_fr3_that_is_slowed_down_near_its_end_passes_the_same_check() -> None:
    near = np.zeros((16, 8), dtype=np.float32)
    near[:, :7] = (0, 1.3, 0, -1.5, 0, 2.0, 0)
    near[13:, 1] = 1.4 + np.arange(3, dtype=np.float32) * 0.1
    verdict = guard(robot="franka_fr3").check(near)
    assert verdict.decision is Decision.CLAMP
    assert rule(verdict, "D4.stopping_room").status is RuleStatus.CLAMPED
    again = guard(robot="franka_fr3").check(verdict.actions)
    assert rule(again, "D4.stopping_room").status is RuleStatus.PASSED


def test_one_position_alone_has_no_speed() -> None:
    verdict = guard().check(joint_chunk(1))
    assert rule(verdict, "C1.joint_velocity").reason is NotEvaluated.NO_STATE
    assert rule(verdict, "D4.stopping_room").reason is NotEvaluated.NO_STATE


def test_accelerations_and_jerks_never_change_a_motion() -> None:
    rough = joint_chunk(control := 12)
    rough[::2, 0] += np.float32(0.04)
    verdict = guard(control_hz=50.0).check(rough)
    assert rule(verdict, "C2.joint_acceleration").status is RuleStatus.WARNED
    slow = guard(control_hz=50.0).check(joint_chunk(control, step_rad=1e-4))
    assert (rule(slow, "C3.joint_jerk").status, rule(slow, "C3.joint_jerk").score) == (RuleStatus.INFORMED, None)
    assert rule(guard().check(joint_chunk()), "C3.joint_jerk").reason is NotEvaluated.NOT_APPLICABLE
    assert rule(guard().check(joint_chunk(2)), "C2.joint_acceleration").reason is NotEvaluated.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("amplitude", "status"), [(0.1, RuleStatus.WARNED), (0.05, RuleStatus.WARNED), (0.001, RuleStatus.PASSED)]
)
def test_back_and_forth_warns_beyond_the_deadband(amplitude: float, status: RuleStatus) -> None:
    flapping = np.tile(np.append(Q, 0.5), (16, 1)).astype(np.float32)
    flapping[::2, 2] += np.float32(amplitude)
    assert rule(guard().check(flapping), "C4.oscillation").status is status


def test_too_few_changes_say_nothing_about_back_and_forth() -> None:
    assert rule(guard().check(joint_chunk(4)), "C4.oscillation").reason is NotEvaluated.NOT_APPLICABLE


@pytest.mark.parametrize(("commands", "status"), [([0, 0, 1, 1, 1, 1, 1, 1], "passed"), ([0, 1, 0, 1, 0, 1, 0, 1], "warned")])
def test_a_grasp_is_no_chatter(commands: list[float], status: str) -> None:
    raw = chunk()
    raw[:, 6] = commands
    assert rule(panda_guard().check(raw), "C5.gripper_chatter").status == status


def test_numbers_at_the_ends_of_the_training_range_warn() -> None:
    space = replace(action_space(), training_range=((-0.02, 0.02),) * 3 + ((-0.1, 0.1),) * 2 + ((0.05, 0.05), (0.0, 1.0)))
    trained = Guard(panda(), Preset.REDUCED, space)
    assert rule(trained.check(chunk()), "C6.saturation").status is RuleStatus.PASSED
    stuck = chunk()
    stuck[:, :5] = (0.02, -0.02, 0.02, 0.1, -0.1)
    assert rule(trained.check(stuck), "C6.saturation").status is RuleStatus.WARNED
    assert rule(trained.check(stuck), "F2.action_ood").status is RuleStatus.PASSED
    unusual = chunk(x=0.031)
    assert rule(trained.check(unusual), "F2.action_ood").status is RuleStatus.WARNED
    narrow = Guard(panda(), Preset.REDUCED, replace(action_space(), training_range=((0.0, 0.0),) * 7))
    assert rule(narrow.check(chunk()), "C6.saturation").reason is NotEvaluated.LIMIT_UNPUBLISHED


def test_a_robot_without_published_accelerations_is_slowed_down_by_its_speeds_alone() -> None:
    jump = np.zeros((12, 7), dtype=np.float32)
    jump[6:, 0] = 0.3
    jump[:, 6] = 0.5
    verdict = guard(robot="ur5e").check(jump)
    assert (verdict.decision, verdict.limiting_rule) == (Decision.CLAMP, "C1.joint_velocity")
    assert np.diff(verdict.actions[:, 0].astype(np.float64)).max() * 10 <= np.pi / 2
    assert rule(verdict, "D4.stopping_room").reason is NotEvaluated.LIMIT_UNPUBLISHED


def test_several_joints_are_slowed_down_by_one_factor() -> None:
    jump = joint_chunk(12)
    jump[6:, :3] += np.array([0.3, 0.2, -0.1], dtype=np.float32)
    sent = guard().check(jump).actions.astype(np.float64)
    ways = (sent[6] - sent[5])[:3] / (jump[6].astype(np.float64) - sent[5])[:3]
    assert ways == pytest.approx(ways[0], rel=1e-5)
