"""What the previous chunk of a session, the clock and the tokens tell."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.calibration import ActionRange, Threshold, Thresholds
from safety.context import Context, PreviousChunk, RobotState, TokenEvidence
from safety.memory import remembered
from safety.verdict import Decision, NotEvaluated, RefusedFor, RuleStatus
from tests.safety.factories import (
    chunk,
    joint_chunk,
    pose_chunk,
    rule,
)
from tests.safety.scenes import AT_READY, Q, at, deltas, guard, session


def test_a_chunk_that_goes_on_where_the_last_one_was_is_consistent() -> None:
    first = joint_chunk(20)
    context = session(guard(), first, state=RobotState(q=first[4, :7].astype(float)))
    verdict = guard().check(first[5:], context)
    assert verdict.decision is Decision.PASS
    assert {rule(verdict, name).status for name in ("D1.start_gap", "D8.tracking_error", "E1.seam", "E6.rate_mismatch")} == {
        RuleStatus.PASSED
    }
    consistency = rule(verdict, "E2.chunk_consistency")
    assert (consistency.status, consistency.score, consistency.value) == (RuleStatus.INFORMED, None, 0.0)


def test_a_jump_across_the_seam_is_clamped_against_the_last_command() -> None:
    first = joint_chunk(20)
    jumped = first[5:].copy()
    jumped[:, 2] += 0.3
    verdict = guard().check(jumped, session(guard(), first))
    assert rule(verdict, "D1.start_gap").status is RuleStatus.CLAMPED
    assert rule(verdict, "E1.seam").status is RuleStatus.WARNED
    assert abs(float(verdict.actions[0, 2]) - float(first[4, 2])) * 10 <= 1.0875


def test_a_calibrated_consistency_warns_and_a_customer_may_refuse_then() -> None:
    fitted = Thresholds(
        policy="p",
        robot_type="franka_panda",
        chunk_consistency=Threshold(value=0.1, alpha=0.05, rollouts=50),
        token_entropy=Threshold(value=0.5, alpha=0.05, rollouts=50),
        action_range=ActionRange(low=(-3.0,) * 8, high=(3.0,) * 8, excess=Threshold(value=0.0, alpha=0.05, rollouts=25)),
    )
    first = joint_chunk(20)
    wavering = first[5:] + np.float32(0.02)
    strict = guard(thresholds=fitted, refuse_on_warning=frozenset({"E2"}))
    assert (
        rule(guard(thresholds=fitted).check(wavering, session(guard(), first)), "E2.chunk_consistency").status
        is RuleStatus.WARNED
    )
    verdict = strict.check(wavering, session(guard(), first))
    assert (verdict.decision, verdict.limiting_rule, verdict.refused_for) == (
        Decision.REJECT,
        "E2.chunk_consistency",
        RefusedFor.MOTION,
    )
    unsure = Context(tokens=TokenEvidence(entropy_nats=[3.0, 4.0], bin_count=256))
    assert rule(guard(thresholds=fitted).check(first, unsure), "F1.token_entropy").status is RuleStatus.WARNED
    assert rule(guard().check(first, unsure), "F1.token_entropy").value == pytest.approx(3.5 / np.log(256))
    assert rule(guard(thresholds=fitted).check(first), "F2.action_ood").status is RuleStatus.PASSED


@pytest.mark.parametrize(
    "tokens", [TokenEvidence(entropy_nats=[], bin_count=256), TokenEvidence(entropy_nats=[1.0], bin_count=1)]
)
def test_what_is_no_entropy_is_not_evaluated(tokens: TokenEvidence) -> None:
    assert rule(guard().check(joint_chunk(), Context(tokens=tokens)), "F1.token_entropy").reason is NotEvaluated.NOT_APPLICABLE


def test_a_robot_that_does_not_follow_is_refused_the_third_time() -> None:
    first = joint_chunk(20)
    elsewhere = RobotState(q=first[4, :7].astype(float) + np.array([0.25, 0, 0, 0, 0, 0, 0]))
    context, verdict = session(guard(), first, state=elsewhere), None
    for times in (1, 2, 3):
        verdict = guard().check(first[5:], context)
        found = rule(verdict, "D8.tracking_error")
        assert verdict.tracking_count == times
        assert found.status is (RuleStatus.REJECTED if times == 3 else RuleStatus.WARNED)
        kept = PreviousChunk(actions=first, sent_at_s=100.0, seq=times + 1, tracking_count=verdict.tracking_count)
        context = replace(context, previous=kept, seq=times + 2)
    assert verdict is not None
    assert verdict.decision is Decision.REJECT


@pytest.mark.parametrize("kind", [ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL])
def test_deltas_tell_where_the_robot_should_be(kind: ActionKind) -> None:
    first = deltas(10, speed=0.2, kind=kind)
    there = session(guard(kind), first, state=RobotState(q=Q + 0.1))
    assert rule(guard(kind).check(first, there), "D8.tracking_error").value == pytest.approx(0.0, abs=1e-6)
    lost = replace(there, previous=replace(there.previous or PREVIOUS_NONE, q=None))
    assert rule(guard(kind).check(first, lost), "D8.tracking_error").reason is NotEvaluated.NO_STATE


PREVIOUS_NONE = PreviousChunk(actions=joint_chunk(), sent_at_s=0.0)


@pytest.mark.parametrize(("kind", "raw"), [(ActionKind.EE_DELTA_ROTVEC, chunk(10)), (ActionKind.EE_ABS, pose_chunk(10))])
def test_the_end_effector_tells_too(kind: ActionKind, raw: NDArray[np.float32]) -> None:
    start = at(0.19, 0.0, 0.5)
    expected = 0.24
    context = session(guard(kind), raw, start, state=RobotState(ee_position=(expected + 0.06, 0.0, 0.5)))
    assert rule(guard(kind).check(raw, context), "D8.tracking_error").status is RuleStatus.WARNED


def test_a_frozen_camera_is_noticed_at_the_third_request() -> None:
    first, found = joint_chunk(20), []
    context = session(guard(), first, state=AT_READY.state, image_hash="same")
    for times in range(3):
        verdict = guard().check(first, context)
        found.append(rule(verdict, "E4.observation_frozen").status)
        context = replace(context, seq=times + 3, previous=remembered(context, verdict))
    assert found == [RuleStatus.PASSED, RuleStatus.WARNED, RuleStatus.WARNED]
    moved = replace(context, image_hash="other")
    assert guard().check(first, moved).frozen_count == 0
    off = guard(disabled_rules=frozenset({"E4"}))
    assert rule(off.check(first, context), "E4.observation_frozen").reason is NotEvaluated.DISABLED_BY_CUSTOMER


@pytest.mark.parametrize(("hz", "status"), [(10, "passed"), (20, "passed"), (21, "warned"), (4.9, "warned")])
def test_another_rate_than_the_policys_warns(hz: float, status: str) -> None:
    assert rule(guard().check(joint_chunk(), Context(control_hz=hz)), "E6.rate_mismatch").status == status
    context = session(guard(), joint_chunk(), now_s=100.0 + 5 / hz)
    assert rule(guard().check(joint_chunk(), context), "E6.rate_mismatch").status == status


@pytest.mark.parametrize("later", [{"executed_index": None}, {"now_s": None}, {"now_s": 100.0}])
def test_a_rate_that_cannot_be_measured_is_not_guessed(later: dict[str, Any]) -> None:
    context = session(guard(), joint_chunk(), **later)
    assert rule(guard().check(joint_chunk(), context), "E6.rate_mismatch").reason is NotEvaluated.NO_TIMESTAMP


@pytest.mark.parametrize("later", [{"now_s": 99.0}, {"now_s": 111.0}, {"executed_index": -1}])
def test_an_old_session_or_a_clock_that_went_back_is_no_reference(later: dict[str, Any]) -> None:
    verdict = guard().check(joint_chunk(), session(guard(), joint_chunk(), **later))
    assert rule(verdict, "E1.seam").reason is NotEvaluated.NO_SESSION
    assert rule(verdict, "D1.start_gap").reason is NotEvaluated.NO_STATE


def test_one_executed_position_has_no_velocity_to_jump_from() -> None:
    verdict = guard().check(joint_chunk(), session(guard(), joint_chunk(), executed_index=0))
    assert rule(verdict, "E1.seam").reason is NotEvaluated.NO_SESSION


def test_a_chunk_executed_to_its_end_leaves_nothing_to_disagree_with() -> None:
    verdict = guard().check(joint_chunk(), session(guard(), joint_chunk(), executed_index=19))
    assert rule(verdict, "E2.chunk_consistency").reason is NotEvaluated.NOT_APPLICABLE


def test_a_camera_that_is_frozen_while_deltas_are_commanded_is_noticed_too() -> None:
    deltas_ = guard(ActionKind.JOINT_DELTA)
    context = session(deltas_, deltas(10), state=AT_READY.state, image_hash="same")
    verdict = deltas_.check(deltas(10), context)
    assert (verdict.frozen_count, verdict.frozen_steps) == (1, 5)
