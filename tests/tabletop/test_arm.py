"""Kinematics agree with the simulated robot: the network relies on the same chain."""

import mujoco
import numpy as np
import pytest

from tabletop.arm import HOME_RAD, JOINTS, TOOL_DOWN, InverseKinematics, Pose, forward, rotation_of, turn_between
from tabletop.scene import Tabletop

pytestmark = pytest.mark.export


def test_forward_kinematics_is_that_of_the_simulated_robot(table: Tabletop) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        joints = HOME_RAD + random.uniform(-0.5, 0.5, JOINTS)
        table.data.qpos[:JOINTS] = joints
        mujoco.mj_kinematics(table.model, table.data)
        found = forward(joints)
        assert np.allclose(found.position, table.tool.position, atol=1e-6)
        assert np.allclose(found.rotation, table.tool.rotation, atol=1e-6)


def test_at_home_the_tool_points_down() -> None:
    assert np.allclose(forward(HOME_RAD).rotation, TOOL_DOWN, atol=1e-6)


def test_inverse_kinematics_reaches_poses_over_the_table(table: Tabletop) -> None:
    solver, random = InverseKinematics(table.model), np.random.default_rng(1)
    for _ in range(20):
        place = np.array([random.uniform(0.38, 0.6), random.uniform(-0.2, 0.2), random.uniform(0.02, 0.25)])
        target = Pose(position=place, rotation=rotation_of(np.array([0.0, 0.0, random.uniform(-0.7, 0.7)])) @ TOOL_DOWN)
        joints = HOME_RAD
        for _ in range(4):
            joints = solver.solve(joints, target)
        found = forward(joints)
        assert np.linalg.norm(found.position - target.position) < 1e-3
        assert np.linalg.norm(turn_between(found.rotation, target.rotation)) < 5e-3


def test_a_turn_and_its_rotation_are_inverse() -> None:
    turn = np.array([0.1, -0.2, 0.3])
    start = rotation_of(np.array([0.4, 0.1, -0.2]))
    assert np.allclose(turn_between(start, rotation_of(turn) @ start), turn)
