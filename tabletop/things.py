"""What can stand on the table: coloured cubes and cylinders, and a bowl. Names, sizes and colours; no physics and no language.

`draw_layout` says which of them stand where in the scene of a seed. Two layouts: `CUBES` is the first policy's scene, so
that its numbers stay comparable; `VARIED` is everything.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Place = NDArray[np.float64]

COLOURS = ("red", "green", "blue", "yellow", "purple")
CUBE_COLOURS = ("red", "green", "blue")  # of the layout CUBES
RGB = {
    "red": (0.80, 0.12, 0.10),
    "green": (0.12, 0.60, 0.16),
    "blue": (0.10, 0.22, 0.75),
    "yellow": (0.88, 0.74, 0.10),
    "purple": (0.52, 0.12, 0.62),
}
BOWL = "bowl"
CUBE_HALF_M = 0.02
CYLINDER_RADIUS_M, CYLINDER_HALF_M = 0.02, 0.025
BOWL_RADIUS_M, BOWL_HEIGHT_M = 0.056, 0.032  # inside, and of the rim
SPACE_X_M, SPACE_Y_M = (0.38, 0.60), (-0.20, 0.20)
GAP_M, BOWL_GAP_M = 0.11, 0.15  # between centres: room for the open fingers
_TRIES = 200


class Shape(StrEnum):
    """What the fingers can hold."""

    CUBE = "cube"
    CYLINDER = "cylinder"


SLOTS = {Shape.CUBE: 3, Shape.CYLINDER: 2}  # so many of each can stand in one scene
HALF_HEIGHT_M = {Shape.CUBE: CUBE_HALF_M, Shape.CYLINDER: CYLINDER_HALF_M}


class Layout(StrEnum):
    """Which scenes are drawn."""

    CUBES = "cubes"  # a red, a green and a blue cube
    VARIED = "varied"  # two to four things of different colours, often a bowl, clutter at the edges


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing to hold. Its name is what the truth calls it, whatever a sentence says."""

    colour: str
    shape: Shape

    @property
    def name(self) -> str:
        """For example `red cube`."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A thing and where it stands: (2,) m, and its angle."""

    thing: Thing
    at: Place
    yaw_rad: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything that stands on the table of one scene."""

    things: tuple[Placed, ...]
    bowl_at: Place | None


def draw_layout(layout: Layout, random: np.random.Generator, *, needs_bowl: bool = False) -> Setting:
    """A setting, from `random` alone; `needs_bowl` gives a bowl to those that would have none. Scenes of cubes never have one."""
    match layout:
        case Layout.CUBES:
            return _cubes(random)
        case Layout.VARIED:
            return _varied(random, needs_bowl=needs_bowl)


def _cubes(random: np.random.Generator) -> Setting:
    placed: list[Placed] = []
    for colour in random.permutation(CUBE_COLOURS):
        at = _spot(placed, None, random)
        yaw_rad = random.uniform(-np.pi, np.pi)
        placed.append(Placed(thing=Thing(colour=str(colour), shape=Shape.CUBE), at=at, yaw_rad=yaw_rad))
    return Setting(things=tuple(placed), bowl_at=None)


def _varied(random: np.random.Generator, *, needs_bowl: bool) -> Setting:
    colours = [str(colour) for colour in random.permutation(COLOURS)[: int(random.integers(2, 5))]]
    shapes = [Shape.CUBE, *random.permutation([Shape.CUBE, Shape.CUBE, Shape.CYLINDER, Shape.CYLINDER])]
    has_bowl = random.random() < 0.75 or needs_bowl
    while True:
        bowl_at = _anywhere(random) if has_bowl else None
        placed: list[Placed] = []
        try:
            for colour, shape in zip(colours, shapes, strict=False):
                at = _spot(placed, bowl_at, random)
                yaw_rad = random.uniform(-np.pi, np.pi)
                placed.append(Placed(thing=Thing(colour=colour, shape=Shape(shape)), at=at, yaw_rad=yaw_rad))
        except _NoRoom:
            continue
        return Setting(things=tuple(placed), bowl_at=bowl_at)


class _NoRoom(Exception):  # noqa: N818 -- what was found, not what went wrong
    """What stands there already leaves no place."""


def _spot(placed: list[Placed], bowl_at: Place | None, random: np.random.Generator) -> Place:
    for _ in range(_TRIES):
        at = _anywhere(random)
        is_clear_of_bowl = bowl_at is None or bool(np.linalg.norm(at - bowl_at) >= BOWL_GAP_M)
        if is_clear_of_bowl and all(np.linalg.norm(at - other.at) >= GAP_M for other in placed):
            return at
    raise _NoRoom


def _anywhere(random: np.random.Generator) -> Place:
    return np.array([random.uniform(*SPACE_X_M), random.uniform(*SPACE_Y_M)])
