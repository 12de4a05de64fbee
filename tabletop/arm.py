"""The Panda's kinematics: where each joint sits, forward kinematics in numpy, and inverse kinematics on a MuJoCo model.

`JOINT_FRAMES` is the same chain as `assets/panda/panda.xml` (a test compares them); the network computes with it too, so that
joint angles mean the same everywhere. It knows no scene and no task.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

JOINTS = 7
HOME_RAD = np.array([0.0, 0.15, 0.0, -2.3, 0.0, 2.45, np.pi / 4])
TOOL_DOWN = np.diag([1.0, -1.0, -1.0])  # the tool's rotation at home: fingers down, opening along y

_S = float(np.sqrt(0.5))
# Parent frame to joint frame at angle 0: (position in m, quaternion wxyz); every joint then turns about its own z.
JOINT_FRAMES = (
    ((0.0, 0.0, 0.333), (1.0, 0.0, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (_S, -_S, 0.0, 0.0)),
    ((0.0, -0.316, 0.0), (_S, _S, 0.0, 0.0)),
    ((0.0825, 0.0, 0.0), (_S, _S, 0.0, 0.0)),
    ((-0.0825, 0.384, 0.0), (_S, -_S, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (_S, _S, 0.0, 0.0)),
    ((0.088, 0.0, 0.0), (_S, _S, 0.0, 0.0)),
)
# Last joint to the point between the fingertips; the hand is turned by −45°.
TOOL_FRAME = ((0.0, 0.0, 0.107 + 0.1034), (float(np.cos(np.pi / 8)), 0.0, 0.0, -float(np.sin(np.pi / 8))))

_ITERATIONS = 6
_DAMPING = 1e-3
_HOME_PULL = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """A position (m) and a rotation matrix in the robot's base frame."""

    position: Array
    rotation: Array

    def moved(self, shift_m: Array, turn_rad: Array) -> "Pose":
        """This pose after a shift and a rotation vector, both in the base frame."""
        return Pose(position=self.position + shift_m, rotation=rotation_of(turn_rad) @ self.rotation)

    @property
    def yaw_rad(self) -> float:
        """How far the tool is turned about the vertical, 0 at home."""
        return float(np.arctan2(self.rotation[1, 0], self.rotation[0, 0]))


def rotation_of(turn_rad: Array) -> Array:
    """The 3×3 matrix of a rotation vector."""
    quaternion, matrix = np.empty(4), np.empty(9)
    angle = float(np.linalg.norm(turn_rad))
    axis = turn_rad / angle if angle > 1e-12 else np.array([1.0, 0.0, 0.0])
    mujoco.mju_axisAngle2Quat(quaternion, axis, angle)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def turn_between(start: Array, end: Array) -> Array:
    """The rotation vector (rad, base frame) that takes `start` to `end`."""
    quaternion, turn = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(end @ start.T).ravel())
    mujoco.mju_quat2Vel(turn, quaternion, 1.0)
    return turn


def frame_matrix(frame: tuple[tuple[float, ...], tuple[float, ...]]) -> Array:
    """A (position, quaternion) pair as a 4×4 matrix."""
    matrix = np.eye(4)
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, np.array(frame[1]))
    matrix[:3, :3], matrix[:3, 3] = rotation.reshape(3, 3), frame[0]
    return matrix


def forward(joints_rad: Array) -> Pose:
    """Where the tool is at these joint angles."""
    matrix = np.eye(4)
    for angle, frame in zip(joints_rad, JOINT_FRAMES, strict=True):
        turn = np.eye(4)
        turn[:3, :3] = rotation_of(np.array([0.0, 0.0, angle]))
        matrix = matrix @ frame_matrix(frame) @ turn
    matrix = matrix @ frame_matrix(TOOL_FRAME)
    return Pose(position=matrix[:3, 3], rotation=matrix[:3, :3])


class InverseKinematics:
    """Damped least squares on scratch data, pulled weakly to the home posture. One instance per process; not thread-safe."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = model.site("tcp").id
        self._limits = model.jnt_range[:JOINTS]
        self._jacobian = np.zeros((6, model.nv))

    def solve(self, joints_rad: Array, target: Pose) -> Array:
        """Joint angles near `joints_rad` that put the tool at `target` as well as limits allow."""
        data, joints = self._data, joints_rad.copy()
        for _ in range(_ITERATIONS):
            data.qpos[:JOINTS] = joints
            mujoco.mj_kinematics(self._model, data)
            mujoco.mj_comPos(self._model, data)
            mujoco.mj_jacSite(self._model, data, self._jacobian[:3], self._jacobian[3:], self._site)
            joints = np.clip(joints + self._step(joints, target), self._limits[:, 0], self._limits[:, 1])
        return joints

    def _step(self, joints: Array, target: Pose) -> Array:
        rotation = self._data.site_xmat[self._site].reshape(3, 3)
        error = np.concatenate([target.position - self._data.site_xpos[self._site], turn_between(rotation, target.rotation)])
        jacobian = self._jacobian[:, :JOINTS]
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + _DAMPING**2 * np.eye(6))
        null_space = np.eye(JOINTS) - inverse @ jacobian
        return np.asarray(inverse @ error + null_space @ (_HOME_PULL * (HOME_RAD - joints)))
