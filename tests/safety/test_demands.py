"""Staleness, what a customer requires, what a refusal suggests, and two arms."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from safety.action_space import ActionKind
from safety.context import Context, PreviousChunk, RobotState
from safety.guard import Guard
from safety.layering import Layer, base_policy, layered
from safety.profile import Preset, load_profile
from safety.verdict import Decision, NotEvaluated, RefusedFor, RuleStatus, Verdict
from tests.safety.factories import (
    READY,
    action_space,
    chunk,
    joint_chunk,
    pose_chunk,
    rule,
)
from tests.safety.scenes import AT_READY, BOX, at, guard


@pytest.mark.parametrize(
    ("age_ms", "decision", "score"),
    [
        (0.0, Decision.PASS, 1.0),
        (500, Decision.PASS, 1.0),
        (1000, Decision.PASS, 1 - 0.5 / 3),
        (1999.9, Decision.PASS, 0.5),
        (2000, Decision.REJECT, 0.0),
        (36e6, Decision.REJECT, 0.0),
        (1e300, Decision.REJECT, 0.0),
    ],
)
def test_a_chunk_that_is_wholly_past_is_refused(age_ms: float, decision: Decision, score: float) -> None:
    verdict = guard().check(joint_chunk(20), Context(obs_age_ms=age_ms))
    assert verdict.decision is decision
    assert rule(verdict, "E3.staleness").score == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize("age", [None, float("nan"), float("inf"), -1.0, True, "12"])
def test_an_age_that_is_none_is_not_evaluated(age: Any) -> None:
    verdict = guard().check(joint_chunk(), Context(obs_age_ms=age, server_ms=30.0))
    assert rule(verdict, "E3.staleness").reason is NotEvaluated.NO_TIMESTAMP
    assert verdict.expires_in_ms == 2000.0


def test_all_known_delays_count_and_a_customer_may_cap_them() -> None:
    context = Context(obs_age_ms=100.0, server_ms=50.0, network_rtt_ms=30.0)
    verdict = guard().check(joint_chunk(), context)
    assert rule(verdict, "E3.staleness").value == pytest.approx(0.09)
    assert verdict.expires_in_ms == 1820.0
    assert guard(staleness_max_ms=180.0).check(joint_chunk(), context).limiting_rule == "E3.staleness"


def test_what_is_left_of_a_cut_chunk_may_be_wholly_past() -> None:
    cell = guard(ActionKind.EE_DELTA_ROTVEC, workspace=BOX)
    late = replace(at(0.455), obs_age_ms=600.0)
    assert cell.check(chunk(12, x=0.01), replace(late, obs_age_ms=400.0)).decision is Decision.TRUNCATE
    assert cell.check(chunk(12, x=0.01), late).limiting_rule == "E3.staleness"


def test_a_required_rule_that_cannot_look_refuses() -> None:
    demanding = guard(ActionKind.EE_DELTA_ROTVEC, workspace=BOX, required_rules=frozenset({"D2"}))
    verdict = demanding.check(chunk())
    assert (verdict.decision, verdict.refused_for) == (Decision.REJECT, RefusedFor.REQUIRED_RULE)
    assert not RefusedFor.REQUIRED_RULE.is_request_at_fault
    found = rule(verdict, "D2.workspace")
    assert (found.status, found.reason, verdict.limiting_rule) == (RuleStatus.REJECTED, NotEvaluated.NO_STATE, "D2.workspace")
    assert demanding.check(chunk(), at(0.3)).decision is Decision.PASS
    assert demanding.check(chunk(x=9.0)).refused_for is RefusedFor.MOTION


def refusal(kind: ActionKind, context: Context) -> Verdict:
    verdict = guard(kind).check(None, context)
    assert verdict.fallback is not None
    return verdict


@pytest.mark.parametrize(
    ("kind", "context", "values"),
    [
        (ActionKind.JOINT_ABS, AT_READY, (*READY, 0.5)),
        (ActionKind.JOINT_ABS, Context(), None),
        (ActionKind.JOINT_DELTA, AT_READY, (0.0,) * 7 + (0.5,)),
        (ActionKind.JOINT_VEL, Context(), (0.0,) * 7 + (None,)),
        (ActionKind.EE_ABS, at(0.4), None),
        (ActionKind.EE_DELTA_ROTVEC, at(0.4), (0.0,) * 6 + (0.5,)),
    ],
)
def test_a_hold_says_what_is_known(kind: ActionKind, context: Context, values: tuple[float | None, ...] | None) -> None:
    fallback = refusal(kind, context).fallback
    assert fallback is not None
    assert fallback.values == (None if values is None else pytest.approx(values))


@pytest.mark.parametrize(("executed", "row"), [(4, 4), (None, 9), (-1, 9)])
def test_a_hold_keeps_the_last_command_of_the_session(executed: int | None, row: int) -> None:
    poses = pose_chunk()
    context = Context(previous=PreviousChunk(actions=poses, sent_at_s=1.0), executed_index=executed)
    fallback = refusal(ActionKind.EE_ABS, context).fallback
    assert fallback is not None
    assert fallback.values == pytest.approx(poses[row].tolist())


def test_both_arms_are_judged_and_the_worse_is_reported() -> None:
    aloha = guard(robot="aloha", control_hz=50.0)
    both = np.zeros((40, 14), dtype=np.float32)
    both[20:, 9] = 0.1  # the right arm's elbow
    verdict = aloha.check(both)
    assert (verdict.decision, rule(verdict, "C1.joint_velocity").at) == (Decision.CLAMP, (20, 9))
    assert verdict.actions[:, :7].tobytes() == both[:, :7].tobytes()
    assert np.abs(np.diff(verdict.actions[:, 9].astype(np.float64))).max() * 50 <= 1.175
    fallback = aloha.check(None, Context(state=RobotState(q=[0.1] * 12, gripper=[0.2, 0.9]))).fallback
    assert fallback is not None
    assert fallback.values == (*(0.1,) * 6, 0.2, *(0.1,) * 6, 0.9)


@pytest.mark.parametrize("kind", [ActionKind.EE_DELTA_ROTVEC, ActionKind.EE_DELTA_EULER])
def test_two_arms_of_deltas_are_scaled_each_for_itself(kind: ActionKind) -> None:
    one = action_space(kind)
    names = tuple(f"{side}_{name}" for side in ("left", "right") for name in one.names)
    space = replace(one, names=names, units=one.units * 2)
    raw = np.concatenate([chunk(), chunk()], axis=1)
    raw[3, 10:13] = 0.2
    policy = layered(base_policy(load_profile("aloha"), Preset.REDUCED), Layer(name="l", gripper_step_max=0.3))
    verdict = Guard(load_profile("aloha"), Preset.REDUCED, space, policy=policy).check(raw)
    assert (verdict.decision, verdict.limiting_rule) == (Decision.CLAMP, "B2.ee_angular_speed")
    assert verdict.actions[:, :7].tobytes() == raw[:, :7].tobytes()
