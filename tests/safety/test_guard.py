"""One scenario per decision and per hazard: what the guard returns, refuses, and says about it."""

from typing import Any

import numpy as np
import pytest

from safety.action_space import ActionKind
from safety.context import Context, RobotState
from safety.guard import GUARD_VERSION
from safety.profile import Preset, load_profile
from safety.verdict import Decision, NotEvaluated, RuleStatus
from tests.safety.factories import ANGULAR_STEP_RAD, LINEAR_STEP_M, chunk, panda_guard, rule

KINDS = [ActionKind.EE_DELTA_ROTVEC, ActionKind.EE_DELTA_EULER]


@pytest.mark.parametrize("kind", KINDS)
def test_a_legal_chunk_comes_back_bit_for_bit(kind: ActionKind) -> None:
    actions = chunk()
    actions[3, 1], actions[4, 2] = -0.0, 1e-45
    verdict = panda_guard(kind).check(actions)
    assert (verdict.decision, verdict.is_modified, verdict.overall_score) == (Decision.PASS, False, 1.0)
    assert verdict.actions.dtype == np.float32
    assert verdict.actions.tobytes() == actions.tobytes()
    assert (verdict.limiting_rule, verdict.fallback, verdict.truncated_at) == (None, None, None)


def test_the_returned_chunk_is_read_only_and_apart_from_the_input() -> None:
    actions = chunk()
    verdict = panda_guard().check(actions)
    assert not verdict.actions.flags.writeable
    actions[:] = 9
    assert verdict.actions[0, 0] == np.float32(0.01)


def test_near_a_limit_passes_with_a_lower_score_and_a_warning() -> None:
    verdict = panda_guard().check(chunk(x=0.9 * LINEAR_STEP_M))
    assert (verdict.decision, verdict.limiting_rule) == (Decision.PASS, "B1.ee_linear_speed")
    assert verdict.overall_score == pytest.approx(0.75, abs=1e-6)
    assert rule(verdict, "B1.ee_linear_speed").status is RuleStatus.WARNED


def test_exactly_at_both_limits_passes_with_a_half() -> None:
    verdict = panda_guard().check(chunk(x=LINEAR_STEP_M, rz=ANGULAR_STEP_RAD))
    assert (verdict.decision, verdict.overall_score, verdict.limiting_rule) == (Decision.PASS, 0.5, "B1.ee_linear_speed")


@pytest.mark.parametrize(("column", "limit"), [(0, LINEAR_STEP_M), (5, ANGULAR_STEP_RAD)])
def test_one_float_above_a_limit_is_clamped_below_half(column: int, limit: float) -> None:
    actions = chunk()
    actions[:, column] = np.nextafter(np.float32(limit), np.float32(1))
    verdict = panda_guard().check(actions)
    assert verdict.decision is Decision.CLAMP  # all eight steps, but by rounding only: not too much clamping
    assert 0.499 < verdict.overall_score < 0.5
    assert (verdict.actions[:, column] <= limit).all()


def test_a_fast_step_is_scaled_in_its_direction_and_the_rest_is_untouched() -> None:
    actions = chunk()
    actions[2, :3] = (0.06, -0.03, 0.06)
    verdict = panda_guard().check(actions)
    assert (verdict.decision, verdict.is_modified, verdict.limiting_rule) == (Decision.CLAMP, True, "B1.ee_linear_speed")
    scaled = verdict.actions[2, :3].astype(np.float64)
    assert scaled == pytest.approx(np.array([2, -1, 2]) / 3 * LINEAR_STEP_M, rel=1e-6)
    assert np.linalg.norm(scaled) <= LINEAR_STEP_M
    assert np.array_equal(verdict.actions[2, 3:], actions[2, 3:])
    assert np.array_equal(np.delete(verdict.actions, 2, axis=0), np.delete(actions, 2, axis=0))


def test_translation_and_rotation_are_scaled_each_by_its_own_factor() -> None:
    actions = chunk()
    actions[1, :6] = (0.05, 0.0, 0.0, 0.0, 0.3, 0.4)
    verdict = panda_guard().check(actions)
    assert verdict.actions[1, :3] == pytest.approx([LINEAR_STEP_M, 0, 0], rel=1e-6)
    assert verdict.actions[1, 3:6] == pytest.approx(np.array([0, 0.6, 0.8]) * ANGULAR_STEP_RAD, rel=1e-6)
    assert {rule(verdict, name).status for name in ("B1.ee_linear_speed", "B2.ee_angular_speed")} == {RuleStatus.CLAMPED}


def test_a_gripper_outside_its_range_is_put_to_the_end() -> None:
    actions = chunk()
    actions[:, 6] = 1.003
    verdict = panda_guard().check(actions)
    assert (verdict.decision, verdict.limiting_rule) == (Decision.CLAMP, "B4.gripper_range")
    assert (verdict.actions[:, 6] == 1).all()
    assert np.array_equal(verdict.actions[:, :6], actions[:, :6])


def test_a_configured_gripper_step_is_enforced_after_the_range() -> None:
    actions = chunk(gripper=0.0)
    actions[4:, 6] = 1.2
    verdict = panda_guard(step_max=0.5).check(actions)
    assert (verdict.decision, verdict.limiting_rule) == (Decision.CLAMP, "B7.dim_step")
    assert verdict.actions[:, 6] == pytest.approx([0, 0, 0, 0, 0.5, 1, 1, 1], abs=1e-6)


def test_an_unconfigured_gripper_step_is_said_to_be_unpublished() -> None:
    result = rule(panda_guard().check(chunk()), "B7.dim_step")
    assert (result.status, result.reason) == (RuleStatus.NOT_EVALUATED, NotEvaluated.LIMIT_UNPUBLISHED)


@pytest.mark.parametrize(("fast_steps", "decision"), [(2, Decision.CLAMP), (3, Decision.REJECT)])
def test_more_than_a_quarter_of_the_steps_scaled_is_refused(fast_steps: int, decision: Decision) -> None:
    actions = chunk()
    actions[:fast_steps, 0] = 0.05
    verdict = panda_guard().check(actions)
    assert verdict.decision is decision
    assert verdict.limiting_rule == ("B1.ee_linear_speed" if decision is Decision.CLAMP else "B8.too_much_clamping")


def test_steps_scaled_in_translation_and_in_rotation_are_counted_once_each() -> None:
    actions = chunk()
    actions[0, 0] = actions[1, 0] = 0.05
    actions[1, 5] = actions[2, 5] = 0.3
    result = rule(panda_guard().check(actions), "B8.too_much_clamping")
    assert (result.status, result.value) == (RuleStatus.REJECTED, 3 / 8)


def test_a_single_step_policy_can_be_clamped() -> None:
    assert panda_guard().check(chunk(1, x=0.05)).decision is Decision.CLAMP


@pytest.mark.parametrize(
    ("columns", "value", "limiting"),
    [
        pytest.param(slice(0, 3), 10.0, "A4.unit_suspect", id="millimetres for metres"),
        pytest.param(slice(3, 6), 3.0, "A4.unit_suspect", id="degrees for radians"),
        pytest.param(slice(0, 3), 0.9, "A4.unit_suspect", id="normalised ±1 for metres"),
        pytest.param(slice(3, 6), -0.95, "A4.unit_suspect", id="normalised ±1 for radians"),
        pytest.param(slice(6, 7), 80.0, "B4.gripper_range", id="0–100 for the gripper"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_unit_is_refused_not_scaled(kind: ActionKind, columns: slice, value: float, limiting: str) -> None:
    actions = chunk()
    actions[5, columns] = value
    verdict = panda_guard(kind).check(actions)
    assert (verdict.decision, verdict.overall_score, verdict.limiting_rule) == (Decision.REJECT, 0, limiting)


@pytest.mark.parametrize(("times", "decision"), [(4.999, Decision.CLAMP), (5.0, Decision.REJECT)])
def test_five_times_the_limit_is_where_scaling_ends(times: float, decision: Decision) -> None:
    actions = chunk()
    actions[0, 0] = times * LINEAR_STEP_M
    assert panda_guard().check(actions).decision is decision


def test_a_gripper_step_of_five_times_its_limit_is_suspect_too() -> None:
    actions = chunk(gripper=0.0)
    actions[4:, 6] = 1.0
    assert panda_guard(step_max=0.2).check(actions).limiting_rule == "A4.unit_suspect"


@pytest.mark.parametrize(
    ("value", "limiting"),
    [
        (np.nan, "A2.finite"),
        (np.inf, "A2.finite"),
        (-np.inf, "A2.finite"),
        (1e308, "A2.finite"),
        (-3.5e38, "A2.finite"),
        (3e38, "A3.magnitude"),
    ],
)
def test_what_float32_cannot_hold_or_no_robot_can_do_is_refused(value: float, limiting: str) -> None:
    actions = chunk().astype(np.float64)
    actions[1, 1] = value
    assert panda_guard().check(actions).limiting_rule == limiting


@pytest.mark.parametrize("step", range(50))
def test_one_nan_anywhere_refuses_the_whole_chunk(step: int) -> None:
    guard = panda_guard()
    for column in range(7):
        actions = chunk(50)
        actions[step, column] = np.nan
        verdict = guard.check(actions)
        assert (verdict.decision, verdict.actions.shape) == (Decision.REJECT, (0, 7))
        assert (verdict.limiting_rule, rule(verdict, "A2.finite").at) == ("A2.finite", (step, column))


def test_a_refusal_returns_no_action_and_a_hold() -> None:
    verdict = panda_guard().check(chunk(x=9.0))
    assert (verdict.actions.shape, verdict.actions.dtype) == ((0, 7), np.dtype(np.float32))
    assert verdict.is_modified
    assert verdict.fallback is not None
    assert (verdict.fallback.type, verdict.fallback.is_safe_state) == ("hold", False)
    assert verdict.fallback.values == (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None)


@pytest.mark.parametrize(("last_gripper", "held"), [(0.25, 0.25), (0, 0.0), (1, 1.0), (np.float64(0.5), 0.5), ([0.5], 0.5)])
def test_a_hold_keeps_the_last_gripper(last_gripper: float, held: float) -> None:
    fallback = panda_guard().check(None, Context(state=RobotState(gripper=last_gripper))).fallback
    assert fallback is not None
    assert fallback.values == (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, held)


@pytest.mark.parametrize("last_gripper", [None, float("nan"), float("inf"), -0.1, 1.1, True, "0.5", [0.5, 0.5], 10**400])
def test_a_last_gripper_that_cannot_be_is_not_held(last_gripper: Any) -> None:
    fallback = panda_guard().check(None, Context(state=RobotState(gripper=last_gripper))).fallback
    assert fallback is not None
    assert fallback.values == (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None)


def test_an_arm_without_gripper_holds_with_six_zeros() -> None:
    guard = panda_guard(has_gripper=False)
    fallback = guard.check(None, Context(state=RobotState(gripper=0.5))).fallback
    assert fallback is not None
    assert fallback.values == (0.0,) * 6
    assert guard.check(chunk()[:, :6]).decision is Decision.PASS


def test_rules_that_cannot_look_are_listed_with_a_reason_and_lower_the_coverage() -> None:
    verdict = panda_guard().check(chunk())
    assert (verdict.coverage.evaluated, verdict.coverage.applicable) == (11, 26)
    assert verdict.score_is_upper_bound
    reasons = {result.id[:2]: result.reason for result in verdict.rules if result.status is RuleStatus.NOT_EVALUATED}
    assert reasons == {
        **dict.fromkeys(("B7", "C6", "D2", "F2"), NotEvaluated.LIMIT_UNPUBLISHED),
        **dict.fromkeys(("D0", "D3", "D5"), NotEvaluated.NO_STATE),
        **dict.fromkeys(("D8", "E1", "E2", "E4", "E5", "E6"), NotEvaluated.NO_SESSION),
        "E3": NotEvaluated.NO_TIMESTAMP,
        "F1": NotEvaluated.NOT_APPLICABLE,
    }


@pytest.mark.parametrize("raw", [None, np.full((2, 7), np.nan), chunk(x=9.0), chunk(x=0.05), chunk(x=0.01)])
def test_every_verdict_lists_the_same_rules_in_the_same_order(raw: object) -> None:
    guard = panda_guard()
    ids = [result.id for result in guard.check(chunk()).rules]
    verdict = guard.check(raw)
    assert [result.id for result in verdict.rules] == ids
    assert verdict.coverage.applicable == len(ids)
    assert verdict.coverage.evaluated == sum(result.score is not None for result in verdict.rules)


def test_rules_after_a_refusal_say_that_they_were_not_reached() -> None:
    verdict = panda_guard().check(None)
    assert rule(verdict, "B1.ee_linear_speed").reason is NotEvaluated.REFUSED_EARLIER
    assert rule(verdict, "H1.post_check").reason is NotEvaluated.REFUSED_EARLIER
    assert rule(verdict, "B7.dim_step").reason is NotEvaluated.LIMIT_UNPUBLISHED
    assert rule(verdict, "D0.state_valid").reason is NotEvaluated.NO_STATE
    assert verdict.coverage.evaluated == 1


@pytest.mark.parametrize("preset", list(Preset))
def test_a_verdict_names_profile_preset_and_guard_version(preset: Preset) -> None:
    verdict = panda_guard(preset=preset).check(chunk())
    digest = load_profile("franka_panda").content_hash
    assert verdict.profile == f"franka_panda@2/sha256:{digest[:16]}+preset:{preset}"
    assert verdict.guard_version == GUARD_VERSION


def test_the_manufacturer_preset_lets_through_what_the_reduced_one_refuses() -> None:
    actions = chunk(x=0.2, rz=0.3)
    assert panda_guard(preset=Preset.MANUFACTURER).check(actions).decision is Decision.PASS
    assert panda_guard(preset=Preset.REDUCED).check(actions).decision is Decision.REJECT


def test_the_control_rate_scales_the_speed() -> None:
    actions = chunk(x=0.02)
    assert panda_guard(control_hz=10).check(actions).decision is Decision.PASS
    assert panda_guard(control_hz=20).check(actions).limiting_rule == "B8.too_much_clamping"


def test_the_rotation_measure_follows_the_kind() -> None:
    actions = chunk()
    actions[0, 3:6] = 0.09015  # norm 0.15615, just inside; composed as Euler angles it is farther
    assert panda_guard(ActionKind.EE_DELTA_ROTVEC).check(actions).decision is Decision.PASS
    assert panda_guard(ActionKind.EE_DELTA_EULER).check(actions).decision is Decision.CLAMP
