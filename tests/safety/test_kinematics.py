"""Forward kinematics against pinocchio's frozen answers, and Jacobians against small differences."""

from pathlib import Path

import numpy as np
import pytest

from safety.arm_tables import chain_of
from safety.kinematics import Chain, KinematicsError, jacobian, screws
from safety.profile import known_robots, load_profile
from tests.safety.oracles.joints import configurations

FROZEN = np.load(Path(__file__).parent / "oracles" / "kinematics.npz")


def chain(robot: str) -> Chain:
    table = load_profile(robot).kinematics
    assert table is not None
    return chain_of(table)


def drawn(robot: str) -> np.ndarray:
    joints = load_profile(robot).joints
    return configurations(np.array(joints.position_min_rad.values), np.array(joints.position_max_rad.values))


@pytest.mark.parametrize("robot", known_robots())
def test_a_thousand_configurations_are_where_pinocchio_says(robot: str) -> None:
    found = chain(robot).frames(drawn(robot)).end
    assert FROZEN[robot].shape == (1000, 3)
    assert np.abs(found - FROZEN[robot]).max() <= 1e-9


@pytest.mark.parametrize("robot", known_robots())
def test_rotations_are_rotations(robot: str) -> None:
    frames = chain(robot).frames(drawn(robot)[:50])
    identity = frames.rotations @ frames.rotations.swapaxes(-1, -2)
    assert np.abs(identity - np.eye(3)).max() < 1e-12
    assert np.linalg.det(frames.rotations) == pytest.approx(1.0)


@pytest.mark.parametrize("robot", known_robots())
def test_the_jacobian_is_what_small_steps_show(robot: str) -> None:
    arm, q, step = chain(robot), drawn(robot)[7], 1e-6
    found = jacobian(arm.frames(q[np.newaxis]))[0]
    for joint in range(arm.joints):
        nudge = np.zeros(arm.joints)
        nudge[joint] = step
        ahead, behind = arm.frames((q + nudge)[np.newaxis]), arm.frames((q - nudge)[np.newaxis])
        moved = (ahead.end - behind.end)[0] / (2 * step)
        turned = (ahead.rotations[0, -1] @ behind.rotations[0, -1].T - np.eye(3)) / (2 * step)
        assert found[:3, joint] == pytest.approx(moved, abs=1e-7)
        assert found[3:, joint] == pytest.approx([turned[2, 1], turned[0, 2], turned[1, 0]], abs=1e-5)


def test_interbotix_arms_at_zero_are_at_their_published_home() -> None:
    assert chain("widowx_250s").frames(np.zeros((1, 6))).end[0] == pytest.approx([0.458325, 0, 0.36065], abs=1e-12)
    assert chain("viperx_300s").frames(np.zeros((1, 6))).end[0] == pytest.approx([0.536494, 0, 0.42705], abs=1e-12)


@pytest.mark.parametrize("axis", [(0, 0, 2, 0, 0, 0), (0, 0, 1, 0, 0, 0.5)])
def test_a_screw_without_a_unit_axis_or_with_pitch_is_refused(axis: tuple[float, ...]) -> None:
    with pytest.raises(KinematicsError, match="unit ω and no pitch"):
        screws([axis], np.eye(4).tolist())
