"""The simulated table: a Franka Panda, three coloured cubes, physics at 500 Hz and control at 10 Hz.

`reset(seed)` makes the same scene for the same seed, `apply` moves the arm by one action, `View` is what the expert may look at
and a policy may not. It knows no images (see `render`), no language and no learning.
"""

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from tabletop.arm import HOME_RAD, JOINTS, TOOL_DOWN, Array, InverseKinematics, Pose, rotation_of
from tabletop.contract import CONTROL_HZ
from tabletop.instructions import COLOURS

ASSETS = Path(__file__).parent / "assets" / "panda"
TIMESTEP_S = 0.002  # at 0.004 the cubes slip out of the fingers
SUBSTEPS = round(1 / CONTROL_HZ / TIMESTEP_S)
CUBE_HALF_M = 0.02
CUBE_X_M, CUBE_Y_M = (0.38, 0.60), (-0.20, 0.20)
CUBE_GAP_M = 0.11  # between centres: room for the open fingers
START_X_M, START_Y_M, START_Z_M, START_YAW_RAD = (0.42, 0.56), (-0.12, 0.12), (0.14, 0.26), (-0.3, 0.3)
LIFTED_M = 0.06  # a cube this far above its resting height counts as picked up
MAX_SHIFT_M, MAX_TURN_RAD = 0.025, 0.125  # per step; what 0.25 m/s and 1.25 rad/s allow at 10 Hz
CUBE_RGB = {"red": (0.80, 0.12, 0.10), "green": (0.12, 0.60, 0.16), "blue": (0.10, 0.22, 0.75)}
CAMERA = "front"
_RAMP_SUBSTEPS = 20  # the servo gets there in this many, then has the rest to settle
_CAMERA_AT, _CAMERA_LOOKS_AT = np.array([1.12, 0.28, 0.62]), np.array([0.46, -0.01, 0.09])
_CAMERA_FOVY_DEG = 36.0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The truth about a scene, for the expert and for judging success. Positions in m in the robot's base frame."""

    tool: Pose
    finger_width_m: float
    cube_positions: dict[str, Array]
    cube_yaws_rad: dict[str, float]

    def is_lifted(self, colour: str) -> bool:
        """Whether that cube is off the table."""
        return bool(self.cube_positions[colour][2] > CUBE_HALF_M + LIFTED_M)


class Tabletop:
    """One simulated table. `model` and `data` are public because the renderer and the appearance jitter need them."""

    def __init__(self) -> None:
        self.model = _build()
        self.data = mujoco.MjData(self.model)
        self._solver = InverseKinematics(self.model)
        self._tcp = self.model.site("tcp").id
        self._cubes = {colour: self.model.body(colour).id for colour in COLOURS}
        self._cube_joints = {colour: self.model.joint(colour).qposadr[0] for colour in COLOURS}

    def reset(self, seed: int) -> None:
        """A fresh scene: cubes at random places and angles, the tool somewhere above the table, fingers open."""
        random = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        self._place_cubes(random)
        joints, start = HOME_RAD, _start_pose(random)
        for _ in range(3):
            joints = self._solver.solve(joints, start)
        self.data.qpos[:JOINTS], self.data.ctrl[:JOINTS] = joints, joints
        self.data.qpos[JOINTS : JOINTS + 2], self.data.ctrl[JOINTS] = 0.04, 1.0
        mujoco.mj_step(self.model, self.data, nstep=SUBSTEPS)

    def apply(self, action: NDArray[np.floating]) -> None:
        """One control step: (7,) shift in m, rotation vector in rad, gripper (≥ 0.5 closes), from where the tool is now."""
        shift = _limited(np.asarray(action[:3], dtype=np.float64), MAX_SHIFT_M)
        turn = _limited(np.asarray(action[3:6], dtype=np.float64), MAX_TURN_RAD)
        joints = self.data.qpos[:JOINTS].copy()
        target = self._solver.solve(joints, self.tool.moved(shift, turn))
        self.data.ctrl[JOINTS] = 0.0 if action[6] >= 0.5 else 1.0
        for substep in range(SUBSTEPS):
            share = min(1.0, (substep + 1) / _RAMP_SUBSTEPS)
            self.data.ctrl[:JOINTS] = joints + share * (target - joints)
            mujoco.mj_step(self.model, self.data)

    @property
    def tool(self) -> Pose:
        """Where the point between the fingertips is."""
        rotation = self.data.site_xmat[self._tcp].reshape(3, 3).copy()
        return Pose(position=self.data.site_xpos[self._tcp].copy(), rotation=rotation)

    @property
    def state(self) -> NDArray[np.float32]:
        """(8,) what `contract.STATE` names: seven joint angles and the width between the fingers."""
        return np.append(self.data.qpos[:JOINTS], self._finger_width_m).astype(np.float32)

    @property
    def view(self) -> View:
        """The truth, for the expert and the judge."""
        return View(
            tool=self.tool,
            finger_width_m=self._finger_width_m,
            cube_positions={colour: self.data.xpos[body].copy() for colour, body in self._cubes.items()},
            cube_yaws_rad={colour: _yaw(self.data.xmat[body].reshape(3, 3)) for colour, body in self._cubes.items()},
        )

    @property
    def _finger_width_m(self) -> float:
        return float(self.data.qpos[JOINTS] + self.data.qpos[JOINTS + 1])

    def _place_cubes(self, random: np.random.Generator) -> None:
        placed: list[Array] = []
        for colour in random.permutation(COLOURS):
            spot = _free_spot(placed, random)
            placed.append(spot)
            yaw = random.uniform(-np.pi, np.pi)
            start = self._cube_joints[colour]
            self.data.qpos[start : start + 7] = [*spot, CUBE_HALF_M, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]


def _free_spot(placed: list[Array], random: np.random.Generator) -> Array:
    while True:
        spot = np.array([random.uniform(*CUBE_X_M), random.uniform(*CUBE_Y_M)])
        if all(np.linalg.norm(spot - other) >= CUBE_GAP_M for other in placed):
            return spot


def _start_pose(random: np.random.Generator) -> Pose:
    position = np.array([random.uniform(*START_X_M), random.uniform(*START_Y_M), random.uniform(*START_Z_M)])
    turn = rotation_of(np.array([0.0, 0.0, random.uniform(*START_YAW_RAD)]))
    return Pose(position=position, rotation=turn @ TOOL_DOWN)


def _limited(vector: Array, limit: float) -> Array:
    """The same direction, no longer than `limit`."""
    return vector * min(1.0, limit / max(float(np.linalg.norm(vector)), 1e-12))


def _yaw(rotation: Array) -> float:
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def _build() -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_file(str(ASSETS / "panda.xml"))
    spec.option.timestep = TIMESTEP_S
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    _add_surroundings(spec)
    for colour in COLOURS:
        cube = spec.worldbody.add_body(name=colour, pos=[0.5, 0.0, CUBE_HALF_M])
        cube.add_freejoint(name=colour)
        cube.add_geom(
            name=colour,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[CUBE_HALF_M] * 3,
            mass=0.05,
            rgba=[*CUBE_RGB[colour], 1.0],
            friction=[1.0, 0.05, 0.0001],
            solref=[0.01, 1.0],
            condim=4,
        )
    return spec.compile()


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    world = spec.worldbody
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[0.4, 0.0, -0.02], size=[0.6, 0.7, 0.02], rgba=[0.62, 0.52, 0.42, 1.0]
    )
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=[0.0, 0.0, -0.7], size=[4, 4, 0.1], rgba=[0.4, 0.42, 0.45, 1]
    )
    world.add_light(name="lamp", pos=[0.8, -0.4, 1.8], dir=[-0.2, 0.2, -1.0], diffuse=[0.7, 0.7, 0.7], castshadow=False)
    world.add_light(name="sky", pos=[0.0, 0.8, 2.0], dir=[0.2, -0.4, -1.0], diffuse=[0.3, 0.3, 0.3], castshadow=False)
    forward = (_CAMERA_LOOKS_AT - _CAMERA_AT) / np.linalg.norm(_CAMERA_LOOKS_AT - _CAMERA_AT)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.column_stack([right, np.cross(right, forward), -forward])
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    world.add_camera(name=CAMERA, pos=_CAMERA_AT, quat=quaternion, fovy=_CAMERA_FOVY_DEG)
