"""Where a chunk would lead: workspace, keep-outs, the arm's own body, tables, singularities."""

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.context import Context, RobotState
from safety.guard import Guard
from safety.profile import Preset, load_profile
from safety.verdict import Decision, NotEvaluated, RuleStatus
from safety.workspace import Box, HalfSpace
from tests.safety.factories import (
    action_space,
    chunk,
    joint_chunk,
    panda,
    pose_chunk,
    pose_space,
    rule,
)
from tests.safety.scenes import AT_READY, BOX, Q, at, guard


def test_a_path_that_leaves_the_workspace_ends_before_it() -> None:
    cell = guard(ActionKind.EE_DELTA_ROTVEC, workspace=BOX)
    verdict = cell.check(chunk(12, x=0.01), at(0.455))
    assert (verdict.decision, verdict.truncated_at, len(verdict.actions)) == (Decision.TRUNCATE, 4, 4)
    assert verdict.overall_score == pytest.approx(0.5 * 4 / 12)
    assert rule(verdict, "D2.workspace").status is RuleStatus.TRUNCATED
    assert verdict.expires_in_ms == 500.0
    assert verdict.raw is not None
    assert len(verdict.raw) == 12
    assert cell.check(chunk(12, x=0.01), at(0.495)).decision is Decision.REJECT
    assert cell.check(chunk(12, x=0.01)).decision is Decision.PASS


def test_a_customer_may_ask_for_longer_prefixes() -> None:
    cell = guard(ActionKind.EE_DELTA_ROTVEC, workspace=BOX, min_prefix=5)
    assert cell.check(chunk(12, x=0.01), at(0.455)).decision is Decision.REJECT
    assert cell.check(chunk(12, x=0.01), at(0.445)).truncated_at == 5


@pytest.mark.parametrize(("x", "decision"), [(-0.01, Decision.PASS), (0.01, Decision.REJECT)])
def test_from_outside_the_box_only_the_way_in_is_open(x: float, decision: Decision) -> None:
    assert guard(ActionKind.EE_DELTA_ROTVEC, workspace=BOX).check(chunk(x=x), at(0.6)).decision is decision


def test_half_spaces_and_keep_outs_end_a_path_too() -> None:
    wall = HalfSpace(normal=(1.0, 0.0, 0.0), offset_m=0.45)
    assert guard(ActionKind.EE_DELTA_ROTVEC, half_spaces=(wall,)).check(chunk(12, x=0.01), at(0.405)).truncated_at == 4
    post = Box(low_m=(0.431, -0.05, 0.0), high_m=(0.434, 0.05, 1.0))  # thinner than a step
    around = guard(ActionKind.EE_DELTA_ROTVEC, keep_outs=(post,))
    verdict = around.check(chunk(12, x=0.01), at(0.405))
    assert (verdict.truncated_at, verdict.decision) == (2, Decision.TRUNCATE)
    assert around.check(chunk(12, x=0.01), at(0.405, y=0.06)).decision is Decision.PASS
    assert around.check(chunk(8, x=0.0), at(0.432)).decision is Decision.REJECT
    inside = guard(ActionKind.EE_DELTA_ROTVEC, keep_outs=(Box(low_m=(0.3, -0.2, 0.0), high_m=(0.5, 0.2, 1.0)),))
    assert inside.check(chunk(8, x=0.01), at(0.45)).decision is Decision.PASS  # out by the nearest way
    assert inside.check(chunk(8, x=-0.01), at(0.45)).decision is Decision.REJECT


def test_joints_lead_where_forward_kinematics_say() -> None:
    reach = joint_chunk(20, step_rad=0.0)
    reach[:, 1] = np.linspace(-0.5, 0.3, 20)
    cell = guard(workspace=Box(low_m=(-1, -1, 0), high_m=(0.5, 1, 1)))
    verdict = cell.check(reach)
    assert (verdict.decision, verdict.limiting_rule) == (Decision.TRUNCATE, "D2.workspace")
    velocities = np.zeros((20, 8), dtype=np.float32)
    velocities[:, 1], velocities[:, 7] = 0.42, 0.5
    stopped = guard(ActionKind.JOINT_VEL, workspace=Box(low_m=(-1, -1, 0), high_m=(0.5, 1, 1))).check(velocities, AT_READY)
    assert stopped.decision is Decision.TRUNCATE
    assert stopped.truncated_at == len(stopped.actions) - 1
    assert stopped.actions[-1].tolist() == [0.0] * 7 + [0.5]


def test_a_pose_beyond_the_reach_is_cut_off() -> None:
    poses = pose_chunk(12)
    poses[:, 0] = 0.6 + np.arange(12, dtype=np.float32) * 0.02
    assert Guard(load_profile("widowx_250s"), Preset.REDUCED, pose_space()).check(poses).limiting_rule == "D2.workspace"


def test_a_clamped_path_is_cut_where_it_leads_then() -> None:
    swing = chunk(20, x=0.0, rz=0.0)
    swing[0, 0], swing[1:9, 0], swing[9:, 0] = -0.1, 0.0, 0.008
    cell = guard(ActionKind.EE_DELTA_ROTVEC, workspace=BOX)
    verdict = cell.check(swing, at(0.48))
    assert verdict.decision is Decision.TRUNCATE  # raw it would stay inside: the clamped step back is shorter
    assert rule(verdict, "D2.workspace").status is RuleStatus.TRUNCATED
    assert (0.48 + np.cumsum(verdict.actions[:, 0].astype(np.float64)) <= 0.5).all()


def folding(steps: int = 40) -> NDArray[np.float32]:
    """Folds the hand into the upper arm."""
    path = np.tile(np.append(Q, 0.5), (steps, 1))
    path[:, 1], path[:, 3], path[:, 5] = (np.linspace(a, b, steps) for a, b in ((-0.5, -1.6), (-2.0, -2.95), (1.6, 0.2)))
    return path.astype(np.float32)


def test_an_arm_that_folds_into_itself_is_stopped_before_it_touches() -> None:
    verdict = guard().check(folding())
    found = rule(verdict, "D6.self_collision")
    assert (verdict.decision, found.status, found.at) == (Decision.TRUNCATE, RuleStatus.TRUNCATED, (verdict.truncated_at, None))
    assert "capsule approximation" in (found.message or "")
    left = guard().check(verdict.actions)
    assert (left.decision, rule(left, "D6.self_collision").status) == (Decision.PASS, RuleStatus.WARNED)
    assert rule(left, "D6.self_collision").score == pytest.approx(0.5 + 0.5 * (rule(left, "D6.self_collision").value or 0) / 0.02)


def test_an_arm_keeps_off_a_declared_table() -> None:
    table = HalfSpace(normal=(0.0, 0.0, -1.0), offset_m=0.0)
    down = joint_chunk(30, step_rad=0.0)
    down[:, 1] = np.linspace(-0.5, 1.0, 30)
    verdict = guard(surfaces=(table,)).check(down)
    assert rule(verdict, "D7.surface_clearance").status is RuleStatus.TRUNCATED
    assert rule(guard(surfaces=(table,)).check(joint_chunk()), "D7.surface_clearance").status is RuleStatus.PASSED
    assert rule(guard().check(down), "D7.surface_clearance").reason is NotEvaluated.NO_GEOMETRY


def test_a_straight_arm_is_near_a_singularity() -> None:
    straight = guard(robot="ur5e").check(np.zeros((4, 7), dtype=np.float32))
    assert rule(straight, "D5.singularity").status is RuleStatus.WARNED
    deltas_ = Guard(panda(), Preset.REDUCED, action_space())
    assert rule(deltas_.check(chunk(), AT_READY), "D5.singularity").status is RuleStatus.PASSED
    assert rule(deltas_.check(chunk(), at(0.4)), "D5.singularity").reason is NotEvaluated.NO_STATE


def test_end_effector_deltas_are_followed_in_the_joints_roughly() -> None:
    stretched = Context(state=RobotState(q=[0, 0.3, 0, -0.4, 0, 1.6, 0.7]))
    verdict = Guard(panda(), Preset.REDUCED, action_space()).check(chunk(50, x=0.03, rz=0.0), stretched)
    assert rule(verdict, "D3.joint_limit_predicted").status is RuleStatus.WARNED
    assert verdict.decision is Decision.PASS
