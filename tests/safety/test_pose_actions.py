"""Absolute poses: speed, turns however they are written, and rotations that are none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.action_space import ActionKind, RotationForm
from safety.guard import Guard
from safety.profile import Preset
from safety.verdict import Decision, NotEvaluated, RuleStatus
from tests.safety.factories import (
    ROTATIONS,
    panda,
    pose_chunk,
    pose_space,
    rule,
)
from tests.safety.scenes import AT_READY, BOX, at, guard


def test_a_jump_between_poses_is_followed_in_a_straight_line() -> None:
    jump = pose_chunk()
    jump[6:, 1] += 0.05
    verdict = guard(ActionKind.EE_ABS).check(jump)
    assert (verdict.decision, verdict.limiting_rule) == (Decision.CLAMP, "B1.ee_linear_speed")
    way, wanted = verdict.actions[6, :3] - verdict.actions[5, :3], jump[6, :3] - jump[5, :3]
    assert np.linalg.norm(way) * 8 == pytest.approx(0.25, rel=1e-4)
    assert way @ wanted == pytest.approx(np.linalg.norm(way) * np.linalg.norm(wanted), rel=1e-5)


def test_a_pose_far_from_the_robot_is_approached_or_refused() -> None:
    poses = guard(ActionKind.EE_ABS)
    assert poses.check(pose_chunk(), at(0.15)).limiting_rule == "D1.start_gap"
    assert poses.check(pose_chunk(), at(-0.2)).decision is Decision.REJECT
    assert rule(poses.check(pose_chunk(1)), "B1.ee_linear_speed").reason is NotEvaluated.NO_STATE


def rotated(form: RotationForm, angles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Poses that turn about z."""
    count, zero = len(angles), np.zeros(len(angles))
    rotation = {
        RotationForm.ROTATION_VECTOR: (zero, zero, angles),
        RotationForm.EULER: (zero, zero, angles),
        RotationForm.QUATERNION_XYZW: (zero, zero, np.sin(angles / 2), np.cos(angles / 2)),
        RotationForm.QUATERNION_WXYZ: (np.cos(angles / 2), zero, zero, np.sin(angles / 2)),
        RotationForm.SIX_D: (np.cos(angles), np.sin(angles), zero, -np.sin(angles), np.cos(angles), zero),
    }[form]
    return np.column_stack([np.full(count, 0.4), zero, np.full(count, 0.4), *rotation, np.full(count, 0.5)]).astype(np.float32)


@pytest.mark.parametrize("form", list(ROTATIONS))
def test_a_turn_is_measured_alike_however_it_is_written(form: RotationForm) -> None:
    poses = Guard(panda(), Preset.REDUCED, pose_space(form))
    slow = poses.check(rotated(form, np.array([0.0, 0.05, 0.1, 0.2])))
    assert rule(slow, "B2.ee_angular_speed").value == pytest.approx(0.8, rel=1e-4)
    fast = poses.check(rotated(form, np.array([0.0, 0.05, 0.25])))
    assert (fast.decision, fast.limiting_rule) == (Decision.REJECT, "B2.ee_angular_speed")
    assert rule(poses.check(rotated(form, np.array([0.3]))), "B2.ee_angular_speed").reason is NotEvaluated.NO_STATE


def test_a_quaternion_and_its_negative_are_the_same_turn() -> None:
    poses = rotated(RotationForm.QUATERNION_XYZW, np.array([0.1, 0.1, 0.1]))
    poses[1, 3:7] *= -1
    assert rule(guard(ActionKind.EE_ABS).check(poses), "B2.ee_angular_speed").value == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("form", "rotation"),
    [
        (RotationForm.QUATERNION_XYZW, (0, 0, 0, 0)),
        (RotationForm.QUATERNION_XYZW, (0, 0, 0, 1.01)),
        (RotationForm.QUATERNION_WXYZ, (0.5, 0, 0, 0)),
        (RotationForm.SIX_D, (1, 0, 0, 2, 0, 0)),
        (RotationForm.SIX_D, (0, 0, 0, 0, 1, 0)),
    ],
)
def test_what_is_no_rotation_is_refused(form: RotationForm, rotation: tuple[float, ...]) -> None:
    poses = rotated(form, np.zeros(4))
    assert Guard(panda(), Preset.REDUCED, pose_space(form)).check(poses).decision is Decision.PASS
    poses[2, 3:-1] = rotation
    verdict = Guard(panda(), Preset.REDUCED, pose_space(form)).check(poses)
    assert rule(verdict, "B6.rotation_valid").status is RuleStatus.REJECTED


def test_joints_alone_do_not_tell_where_the_tool_is() -> None:
    verdict = guard(ActionKind.EE_ABS, workspace=BOX).check(pose_chunk(), AT_READY)
    assert rule(verdict, "D1.start_gap").reason is NotEvaluated.NO_STATE
    assert rule(verdict, "D2.workspace").status is RuleStatus.PASSED
