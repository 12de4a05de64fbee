"""Client state is hostile input: it refuses the request, or leaves rules unevaluated, and never raises."""

from typing import Any

import numpy as np
import pytest

from safety.context import Context, PreviousChunk, RobotState
from safety.guard import Guard
from safety.profile import Preset, load_profile
from safety.verdict import Decision, NotEvaluated, RefusedFor, RuleStatus
from tests.safety.factories import READY, action_space, joint_chunk, joint_space, panda, panda_guard, rule

GUARD = Guard(panda(), Preset.REDUCED, joint_space())
Q = list(READY)
PREVIOUS = PreviousChunk(actions=joint_chunk(10), sent_at_s=100.0, seq=7, q=READY)


def with_joint(index: int, value: Any) -> RobotState:
    return RobotState(q=[*Q[:index], value, *Q[index + 1 :]])


@pytest.mark.parametrize(
    ("state", "field"),
    [
        (RobotState(q=Q[:6]), "state.q"),
        (RobotState(q=[]), "state.q"),
        (RobotState(q="0000000"), "state.q"),  # type: ignore[arg-type]
        (RobotState(q=np.zeros((7, 1))), "state.q"),
        (RobotState(q=np.zeros(7, dtype=complex)), "state.q"),
        (RobotState(q={"a": 1}), "state.q"),  # type: ignore[arg-type]
        (with_joint(3, float("nan")), "state.q[3]"),
        (with_joint(3, float("inf")), "state.q[3]"),
        (with_joint(3, 10**400), "state.q[3]"),
        (with_joint(2, True), "state.q"),
        (with_joint(2, "0"), "state.q"),
        (with_joint(2, None), "state.q"),
        (with_joint(3, 0.0), "state.q[3]"),  # a Panda's joint 4 is never straight
        (with_joint(5, -0.0175 - 0.0088), "state.q[5]"),
        (RobotState(ee_position=(0.0, 0.0)), "state.ee_position"),
        (RobotState(ee_position=(0.0, 0.0, 101.0)), "state.ee_position[2]"),
        (RobotState(gripper=float("nan")), "state.gripper[0]"),
        (RobotState(gripper=[0.5, 0.5]), "state.gripper"),
        (RobotState(gripper=True), "state.gripper"),
    ],
)
def test_a_state_that_cannot_be_refuses_the_request_and_names_the_field(state: RobotState, field: str) -> None:
    for verdict in (GUARD.check(joint_chunk(), Context(state=state)), GUARD.check_context(Context(state=state))):
        assert verdict is not None
        assert (verdict.decision, verdict.refused_for, verdict.refused_field) == (Decision.REJECT, RefusedFor.STATE, field)
        assert (verdict.limiting_rule, verdict.coverage.evaluated) == ("D0.state_valid", 1)
        assert RefusedFor.STATE.is_request_at_fault
        assert rule(verdict, "C1.joint_velocity").reason is NotEvaluated.REFUSED_EARLIER


@pytest.mark.parametrize("q", [Q, tuple(Q), np.array(Q), np.array(Q, dtype=np.float32), [np.float64(x) for x in Q]])
def test_numbers_in_any_plain_form_are_a_state(q: Any) -> None:
    context = Context(state=RobotState(q=q))
    assert GUARD.check_context(context) is None
    assert rule(GUARD.check(joint_chunk(), context), "D0.state_valid").status is RuleStatus.PASSED


def test_half_a_degree_beyond_an_end_is_still_a_state() -> None:
    assert GUARD.check_context(Context(state=with_joint(5, -0.0175 - 0.0086))) is None


def test_the_state_of_another_robot_is_impossible_here() -> None:
    context = Context(state=with_joint(5, 0.2))
    fr3 = Guard(load_profile("franka_fr3"), Preset.REDUCED, joint_space())
    assert GUARD.check_context(context) is None
    refused = fr3.check_context(context)
    assert refused is not None
    assert refused.refused_field == "state.q[5]"


@pytest.mark.parametrize(
    ("context", "field"),
    [
        (Context(previous=PREVIOUS, seq=7), "seq"),
        (Context(previous=PREVIOUS, seq=-1), "seq"),
        (Context(previous=PREVIOUS, seq=8, executed_index=10), "executed_index"),
        (Context(previous=PREVIOUS, executed_index=-2), "executed_index"),
        (Context(seq=1.5), "seq"),  # type: ignore[arg-type]
        (Context(seq=True), "seq"),
        (Context(executed_index="3"), "executed_index"),  # type: ignore[arg-type]
    ],
)
def test_a_replay_or_an_impossible_index_is_a_sequence_error(context: Context, field: str) -> None:
    verdict = GUARD.check(joint_chunk(), context)
    assert (verdict.refused_for, verdict.refused_field, verdict.limiting_rule) == (RefusedFor.SEQUENCE, field, "E5.sequence")


@pytest.mark.parametrize("seq", [8, 9, 2**62])
def test_a_sequence_may_have_gaps(seq: int) -> None:
    verdict = GUARD.check(joint_chunk(), Context(previous=PREVIOUS, seq=seq))
    assert rule(verdict, "E5.sequence").status is RuleStatus.PASSED


@pytest.mark.parametrize(
    "previous",
    [
        PreviousChunk(actions=np.zeros((3, 7), dtype=np.float32), sent_at_s=1.0, seq=9),
        PreviousChunk(actions=np.zeros((0, 8), dtype=np.float32), sent_at_s=1.0, seq=9),
        PreviousChunk(actions=np.zeros(8, dtype=np.float32), sent_at_s=1.0, seq=9),
        PreviousChunk(actions=np.full((3, 8), np.nan, dtype=np.float32), sent_at_s=1.0, seq=9),
        PreviousChunk(actions=np.zeros((3, 8), dtype=np.float32), sent_at_s=float("nan"), seq=9),
        PreviousChunk(actions=[[0.0] * 8], sent_at_s=1.0, seq=9),  # type: ignore[arg-type]
    ],
)
def test_a_previous_chunk_of_another_policy_is_a_lost_session(previous: PreviousChunk) -> None:
    verdict = GUARD.check(joint_chunk(), Context(previous=previous, seq=1, executed_index=0))
    assert verdict.decision is Decision.PASS
    assert {rule(verdict, name).reason for name in ("E1.seam", "E2.chunk_consistency", "E5.sequence")} == {
        NotEvaluated.NO_SESSION
    }


def test_two_arms_report_one_after_the_other() -> None:
    aloha = Guard(load_profile("aloha"), Preset.REDUCED, joint_space(joints=6, arms=2))
    refused = aloha.check_context(Context(state=RobotState(q=[0.0] * 11 + [9.0])))
    assert refused is not None
    assert refused.refused_field == "state.q[11]"
    assert aloha.check_context(Context(state=RobotState(q=[0.0] * 12, gripper=[0.1, 0.9]))) is None


def test_a_gripper_of_an_arm_without_one_is_nothing() -> None:
    guard = panda_guard(has_gripper=False)
    assert guard.check_context(Context(state=RobotState(gripper=[0.1, 0.2, 0.3]))) is None


@pytest.mark.parametrize("unit", ["rad"])
def test_an_arm_given_as_end_effector_deltas_reports_its_joints_too(unit: str) -> None:
    verdict = Guard(panda(), Preset.REDUCED, action_space()).check(
        np.zeros((4, 7), dtype=np.float32), Context(state=RobotState(q=Q))
    )
    assert rule(verdict, "D3.joint_limit_predicted").unit == unit
