"""How a scene looks apart from what is in it: light, colours and a camera that was bumped a little.

Applied after `Tabletop.reset` so that a policy cannot rely on one exact shade or one exact camera position. It moves nothing that
physics sees.
"""

import mujoco
import numpy as np

from tabletop.arm import Array
from tabletop.scene import Tabletop
from tabletop.things import BOWL, COLOURS, RGB
from tabletop.world import ABSENT_AT_M, CLUTTER, FRONT, WRIST

_CLUTTER_X_M, _CLUTTER_Y_M, _CLUTTER_HALF_M = (0.30, 0.75), (0.30, 0.42), (0.01, 0.045)  # beside where things stand
_CAMERA_SHIFT_M, _CAMERA_TURN_RAD = 0.005, 0.006


class Appearance:
    """Remembers how the table looked when built and draws variations of it."""

    def __init__(self, table: Tabletop) -> None:
        model = table.model
        self._table = table
        self._model, self._data = model, table.data
        self._rgba, self._shell = model.geom_rgba.copy(), model.mat_rgba.copy()
        self._lights, self._light_at = model.light_diffuse.copy(), model.light_pos.copy()
        self._camera_at, self._camera_quat = model.cam_pos.copy(), model.cam_quat.copy()

    def vary(self, seed: int, *, camera_bump: float = 1.0) -> None:
        """A new look; the same seed gives the same look. `camera_bump` 1 is what training sees, more is farther out of place."""
        random, model = np.random.default_rng((seed, 7)), self._model
        for name, spread in (("table", 0.08), ("floor", 0.15)):
            geom = model.geom(name).id
            model.geom_rgba[geom, :3] = _varied(self._rgba[geom, :3], spread, random)
        for colour in COLOURS:
            for geom in self._table.geoms_of(colour):
                model.geom_rgba[geom, :3] = _varied(np.array(RGB[colour]), 0.06, random)
        model.mat_rgba[:, :3] = np.clip(self._shell[:, :3] * random.uniform(0.85, 1.08), 0.0, 1.0)
        model.light_diffuse[:] = self._lights * random.uniform(0.7, 1.25, size=(len(self._lights), 1))
        model.light_pos[:] = self._light_at + random.uniform(-0.4, 0.4, size=self._light_at.shape)
        self._bump_camera(self._model.camera(FRONT).id, random, camera_bump)
        self._vary_the_rest(np.random.default_rng((seed, 8)), camera_bump)
        mujoco.mj_camlight(model, self._data)  # else the next picture still has the light and camera of the last scene

    def _vary_the_rest(self, random: np.random.Generator, camera_bump: float) -> None:
        """What the first policy's scenes did not have, from numbers of its own, so that their look stays as it was."""
        model = self._model
        self._bump_camera(model.camera(WRIST).id, random, 0.4 * camera_bump)
        bowl = random.uniform(0.75, 1.15, 3) * np.array([1.0, 0.98, 0.93])
        body = model.body(BOWL).id
        for geom in np.flatnonzero(model.geom_bodyid == body):
            model.geom_rgba[geom, :3] = np.clip(self._rgba[geom, :3] * bowl, 0.0, 1.0)
        for name in CLUTTER:
            self._place_clutter(model.geom(name).id, random)

    def _place_clutter(self, geom: int, random: np.random.Generator) -> None:
        model, half_m = self._model, random.uniform(*_CLUTTER_HALF_M, 3)
        side = 1.0 if random.random() < 0.5 else -1.0
        at = [random.uniform(*_CLUTTER_X_M), side * random.uniform(*_CLUTTER_Y_M), half_m[2]]
        model.geom_rgba[geom, :3] = random.uniform(0.15, 0.6) + random.uniform(-0.08, 0.08, 3)  # dull: never a thing's colour
        is_there = self._table.is_varied and random.random() < 0.6
        model.geom_size[geom], model.geom_pos[geom] = half_m, at if is_there else ABSENT_AT_M
        self._data.geom_xpos[geom] = model.geom_pos[geom]  # what is drawn; it would follow with the next step only

    def _bump_camera(self, camera: int, random: np.random.Generator, bump: float) -> None:
        shift_m = bump * _CAMERA_SHIFT_M
        self._model.cam_pos[camera] = self._camera_at[camera] + random.uniform(-shift_m, shift_m, 3)
        turn, turned = np.empty(4), np.empty(4)
        axis = random.normal(size=3)
        mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), random.uniform(0.0, bump * _CAMERA_TURN_RAD))
        mujoco.mju_mulQuat(turned, turn, self._camera_quat[camera])
        self._model.cam_quat[camera] = turned


def _varied(rgb: Array, spread: float, random: np.random.Generator) -> Array:
    return np.asarray(np.clip(rgb * random.uniform(0.85, 1.15) + random.uniform(-spread, spread, 3), 0.0, 1.0))
