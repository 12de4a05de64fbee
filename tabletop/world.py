"""Builds the model that MuJoCo simulates: the arm, the table, bodies for the things, a bowl, lights and two cameras.

One model for every scene: what a scene does not have is moved away by `scene`. It knows no seed and no task.
"""

from pathlib import Path

import mujoco
import numpy as np

from tabletop.optics import FRONT_AT_M, FRONT_FOVY_DEG, FRONT_LOOKS_AT_M, axes
from tabletop.things import (
    BOWL,
    BOWL_HEIGHT_M,
    BOWL_RADIUS_M,
    CUBE_HALF_M,
    CYLINDER_HALF_M,
    CYLINDER_RADIUS_M,
    SLOTS,
    Shape,
)

ASSETS = Path(__file__).parent / "assets" / "panda"
TIMESTEP_S = 0.002  # at 0.004 the cubes slip out of the fingers
ABSENT_AT_M = (-1.5, -0.5, -0.4)  # behind the robot and below the table
BOWL_Z_M = 0.006  # its floor
FRONT, WRIST = "front", "wrist"
CLUTTER = ("clutter_0", "clutter_1")
_WRIST_AT, _WRIST_LOOKS_AT, _WRIST_FOVY_DEG = (0.085, 0.0, 0.02), (0.01, 0.0, 0.16), 65.0  # in the hand's frame
_WALLS, _WALL_HALF_M = 14, 0.003
_HOLDABLE = {"mass": 0.05, "friction": [1.0, 0.05, 0.0001], "solref": [0.01, 1.0], "condim": 4}


def slot(shape: Shape, number: int) -> str:
    """The name of a body that can be a thing of that shape."""
    return f"{shape}_{number}"


def build() -> mujoco.MjModel:
    """The compiled model, everything at some place."""
    spec = mujoco.MjSpec.from_file(str(ASSETS / "panda.xml"))
    spec.option.timestep = TIMESTEP_S
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    _add_surroundings(spec)
    _add_things(spec)
    _add_bowl(spec)
    _add_cameras(spec)
    return spec.compile()


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    world, box = spec.worldbody, mujoco.mjtGeom.mjGEOM_BOX
    world.add_geom(name="table", type=box, pos=[0.4, 0.0, -0.02], size=[0.6, 0.7, 0.02], rgba=[0.62, 0.52, 0.42, 1.0])
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=[0.0, 0.0, -0.7], size=[4, 4, 0.1], rgba=[0.4, 0.42, 0.45, 1]
    )
    for name in CLUTTER:  # seen, never touched
        world.add_geom(name=name, type=box, pos=ABSENT_AT_M, size=[0.02] * 3, contype=0, conaffinity=0, rgba=[0.5, 0.5, 0.5, 1])
    world.add_light(name="lamp", pos=[0.8, -0.4, 1.8], dir=[-0.2, 0.2, -1.0], diffuse=[0.7, 0.7, 0.7], castshadow=False)
    world.add_light(name="sky", pos=[0.0, 0.8, 2.0], dir=[0.2, -0.4, -1.0], diffuse=[0.3, 0.3, 0.3], castshadow=False)


def _add_things(spec: mujoco.MjSpec) -> None:
    sizes = {
        Shape.CUBE: (mujoco.mjtGeom.mjGEOM_BOX, [CUBE_HALF_M] * 3),
        Shape.CYLINDER: (mujoco.mjtGeom.mjGEOM_CYLINDER, [CYLINDER_RADIUS_M, CYLINDER_HALF_M, 0.0]),
    }
    for shape, count in SLOTS.items():
        for number in range(count):
            name = slot(shape, number)
            body = spec.worldbody.add_body(name=name, pos=[0.5, 0.0, 0.03])
            body.add_freejoint(name=name)
            body.add_geom(name=name, type=sizes[shape][0], size=sizes[shape][1], rgba=[0.5, 0.5, 0.5, 1.0], **_HOLDABLE)


def _add_bowl(spec: mujoco.MjSpec) -> None:
    """A ring of slightly leaning walls on a floor. It stands fast: a bowl that can be pushed is another task."""
    bowl = spec.worldbody.add_body(name=BOWL, pos=ABSENT_AT_M)
    colour = [0.80, 0.78, 0.74, 1.0]
    floor = BOWL_Z_M / 2
    bowl.add_geom(
        name="bowl_floor", type=mujoco.mjtGeom.mjGEOM_CYLINDER, pos=[0, 0, floor], size=[BOWL_RADIUS_M, floor, 0], rgba=colour
    )
    half_width = (BOWL_RADIUS_M + 2 * _WALL_HALF_M) * np.tan(np.pi / _WALLS)
    for wall in range(_WALLS):
        angle = 2 * np.pi * wall / _WALLS
        reach = BOWL_RADIUS_M + _WALL_HALF_M
        bowl.add_geom(
            name=f"bowl_{wall}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[reach * np.cos(angle), reach * np.sin(angle), BOWL_HEIGHT_M / 2],
            quat=[np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)],
            size=[_WALL_HALF_M, half_width, BOWL_HEIGHT_M / 2],
            rgba=colour,
        )


def _add_cameras(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_camera(name=FRONT, pos=FRONT_AT_M, quat=_turned(axes(FRONT_AT_M, FRONT_LOOKS_AT_M)), fovy=FRONT_FOVY_DEG)
    spec.body("hand").add_camera(
        name=WRIST, pos=_WRIST_AT, quat=_turned(axes(_WRIST_AT, _WRIST_LOOKS_AT, up=(1.0, 0.0, 0.0))), fovy=_WRIST_FOVY_DEG
    )


def _turned(camera: np.ndarray) -> np.ndarray:
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, camera.ravel())
    return quaternion
