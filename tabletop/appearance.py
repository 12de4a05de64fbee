"""How a scene looks apart from what is in it: light, colours and a camera that was bumped a little.

Applied after `Tabletop.reset` so that a policy cannot rely on one exact shade or one exact camera position. It moves nothing that
physics sees.
"""

import mujoco
import numpy as np

from tabletop.arm import Array
from tabletop.instructions import COLOURS
from tabletop.scene import CAMERA, Tabletop

_CAMERA_SHIFT_M, _CAMERA_TURN_RAD = 0.005, 0.006


class Appearance:
    """Remembers how the table looked when built and draws variations of it."""

    def __init__(self, table: Tabletop) -> None:
        model = table.model
        self._model, self._data = model, table.data
        self._rgba, self._shell = model.geom_rgba.copy(), model.mat_rgba.copy()
        self._lights, self._light_at = model.light_diffuse.copy(), model.light_pos.copy()
        self._camera = model.camera(CAMERA).id
        self._camera_at, self._camera_quat = model.cam_pos.copy(), model.cam_quat.copy()

    def vary(self, seed: int, *, camera_bump: float = 1.0) -> None:
        """A new look; the same seed gives the same look. `camera_bump` 1 is what training sees, more is farther out of place."""
        random, model = np.random.default_rng((seed, 7)), self._model
        for name, spread in (("table", 0.08), ("floor", 0.15), *((colour, 0.06) for colour in COLOURS)):
            geom = model.geom(name).id
            model.geom_rgba[geom, :3] = _varied(self._rgba[geom, :3], spread, random)
        model.mat_rgba[:, :3] = np.clip(self._shell[:, :3] * random.uniform(0.85, 1.08), 0.0, 1.0)
        model.light_diffuse[:] = self._lights * random.uniform(0.7, 1.25, size=(len(self._lights), 1))
        model.light_pos[:] = self._light_at + random.uniform(-0.4, 0.4, size=self._light_at.shape)
        self._bump_camera(random, camera_bump)
        mujoco.mj_camlight(model, self._data)  # else the next picture still has the light and camera of the last scene

    def _bump_camera(self, random: np.random.Generator, bump: float) -> None:
        camera, shift_m = self._camera, bump * _CAMERA_SHIFT_M
        self._model.cam_pos[camera] = self._camera_at[camera] + random.uniform(-shift_m, shift_m, 3)
        turn, turned = np.empty(4), np.empty(4)
        axis = random.normal(size=3)
        mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), random.uniform(0.0, bump * _CAMERA_TURN_RAD))
        mujoco.mju_mulQuat(turned, turn, self._camera_quat[camera])
        self._model.cam_quat[camera] = turned


def _varied(rgb: Array, spread: float, random: np.random.Generator) -> Array:
    return np.asarray(np.clip(rgb * random.uniform(0.85, 1.15) + random.uniform(-spread, spread, 3), 0.0, 1.0))
