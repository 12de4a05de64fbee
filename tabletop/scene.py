"""The simulated table: a Franka Panda and what `things` puts on it, physics at 500 Hz and control at 10 Hz.

`reset(seed)` makes the same scene for the same seed, `apply` moves the arm by one action, `View` is what the expert may look at
and a policy may not. It knows no images (see `render`), no task, no language and no learning. The model is built in `world`.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from tabletop.arm import HOME_RAD, JOINTS, TOOL_DOWN, Array, InverseKinematics, Pose, rotation_of
from tabletop.contract import CONTROL_HZ
from tabletop.things import BOWL, HALF_HEIGHT_M, RGB, SLOTS, Layout, Place, Placed, Shape, draw_layout
from tabletop.world import ABSENT_AT_M, BOWL_Z_M, TIMESTEP_S, build, slot

SUBSTEPS = round(1 / CONTROL_HZ / TIMESTEP_S)
START_X_M, START_Y_M, START_Z_M, START_YAW_RAD = (0.42, 0.56), (-0.12, 0.12), (0.14, 0.26), (-0.3, 0.3)
MAX_SHIFT_M, MAX_TURN_RAD = 0.025, 0.125  # per step; what 0.25 m/s and 1.25 rad/s allow at 10 Hz
_RAMP_SUBSTEPS = 20  # the servo gets there in this many, then has the rest to settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Where a thing is: (3,) m in the robot's base frame, and its turn about the vertical."""

    position: Array
    yaw_rad: float
    half_height_m: float
    is_round: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The truth about a scene, for the expert and for judging success. Positions in m in the robot's base frame."""

    tool: Pose
    finger_width_m: float
    things: dict[str, Seen]  # by name, such as `red cube`
    bowl_at: Array | None  # the middle of its floor


class Tabletop:
    """One simulated table. `model` and `data` are public because the renderer and the appearance jitter need them."""

    def __init__(self) -> None:
        self.model = build()
        self.data = mujoco.MjData(self.model)
        self.is_varied = False  # whether the scene is of the layout with everything in it
        self._bowl_at: Array | None = None
        self._solver = InverseKinematics(self.model)
        self._tcp = self.model.site("tcp").id
        self._bodies: dict[str, int] = {}  # by the thing's name
        self._shapes: dict[str, Shape] = {}

    def reset(self, seed: int, layout: Layout = Layout.CUBES, *, needs_bowl: bool = False) -> None:
        """A fresh scene: things at random places and angles, the tool somewhere above the table, fingers open."""
        random = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        setting, self.is_varied = draw_layout(layout, random, needs_bowl=needs_bowl), layout is Layout.VARIED
        self._arrange(setting.things)
        self._put_bowl(setting.bowl_at)
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

    def stay(self) -> None:
        """One control step in which the servos keep what they were last told."""
        mujoco.mj_step(self.model, self.data, nstep=SUBSTEPS)

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
            things={name: self._seen(name) for name in self._bodies},
            bowl_at=None if self._bowl_at is None else self._bowl_at.copy(),
        )

    def geoms_of(self, colour: str) -> list[int]:
        """The geoms of the things of that colour in this scene."""
        return [int(self.model.body_geomadr[body]) for name, body in self._bodies.items() if name.startswith(f"{colour} ")]

    def _seen(self, name: str) -> Seen:
        body, shape = self._bodies[name], self._shapes[name]
        return Seen(
            position=self.data.xpos[body].copy(),
            yaw_rad=_yaw(self.data.xmat[body].reshape(3, 3)),
            half_height_m=HALF_HEIGHT_M[shape],
            is_round=shape is Shape.CYLINDER,
        )

    @property
    def _finger_width_m(self) -> float:
        return float(self.data.qpos[JOINTS] + self.data.qpos[JOINTS + 1])

    def _arrange(self, placed: tuple[Placed, ...]) -> None:
        """Puts each thing into a free body of its shape; the other bodies take part in nothing."""
        self._bodies, self._shapes = {}, {}
        free = {shape: iter(range(count)) for shape, count in SLOTS.items()}
        for one in placed:
            name = slot(one.thing.shape, next(free[one.thing.shape]))
            self._set(name, [*one.at, HALF_HEIGHT_M[one.thing.shape]], one.yaw_rad, is_there=True)
            self.model.geom(name).rgba = [*RGB[one.thing.colour], 1.0]
            self._bodies[one.thing.name], self._shapes[one.thing.name] = self.model.body(name).id, one.thing.shape
        for index, name in enumerate(slot(shape, number) for shape, numbers in free.items() for number in numbers):
            self._set(name, [ABSENT_AT_M[0], ABSENT_AT_M[1] + 0.2 * index, ABSENT_AT_M[2]], 0.0, is_there=False)
            self.model.geom(name).rgba = [0.0, 0.0, 0.0, 0.0]

    def _set(self, name: str, at: list[float], yaw_rad: float, *, is_there: bool) -> None:
        start = self.model.joint(name).qposadr[0]
        self.data.qpos[start : start + 7] = [*at, np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)]
        geom, body = self.model.geom(name).id, self.model.body(name).id
        self.model.geom_contype[geom] = self.model.geom_conaffinity[geom] = int(is_there)
        self.model.body_gravcomp[body] = 0.0 if is_there else 1.0  # what is not there hangs in the air, out of sight

    def _put_bowl(self, at: Place | None) -> None:
        self._bowl_at = None if at is None else np.array([*at, BOWL_Z_M])
        self.model.body_pos[self.model.body(BOWL).id] = ABSENT_AT_M if at is None else [*at, 0.0]


def _start_pose(random: np.random.Generator) -> Pose:
    position = np.array([random.uniform(*START_X_M), random.uniform(*START_Y_M), random.uniform(*START_Z_M)])
    turn = rotation_of(np.array([0.0, 0.0, random.uniform(*START_YAW_RAD)]))
    return Pose(position=position, rotation=turn @ TOOL_DOWN)


def _limited(vector: Array, limit: float) -> Array:
    """The same direction, no longer than `limit`."""
    return vector * min(1.0, limit / max(float(np.linalg.norm(vector)), 1e-12))


def _yaw(rotation: Array) -> float:
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))
