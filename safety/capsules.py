"""Distances between the capsules that stand for an arm's links, for many configurations at once. Geometry only; knows no robot.

A capsule is a segment with a radius, fixed to a link's frame. Capsules are coarse: nothing held and no finger is in them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safety.kinematics import Frames

Array = NDArray[np.float64]
PARALLEL = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Capsule:
    """From `start_m` to `end_m` in the frame behind joint `link` (0: the base, joints + 1: the end effector)."""

    name: str
    link: int
    start_m: tuple[float, float, float]
    end_m: tuple[float, float, float]
    radius_m: float


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """The capsules of an arm as arrays, and which pairs of them may not touch: `first` and `second` are (P,) indices."""

    links: NDArray[np.intp]
    ends: Array  # (C, 2, 3) in the links' frames
    radii: Array
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    names: tuple[str, ...]

    def placed(self, frames: Frames) -> Array:
        """(T, C, 2, 3): both ends of every capsule in the base frame. Link 0 does not move."""
        steps, moving = len(frames.positions), self.links > 0
        placed = np.empty((steps, len(self.links), 2, 3))
        placed[:, ~moving] = self.ends[~moving]
        index = self.links[moving] - 1
        turned = self.ends[moving] @ frames.rotations[:, index].swapaxes(-1, -2)
        placed[:, moving] = turned + frames.positions[:, index, np.newaxis]
        return placed

    def clearances(self, placed: Array) -> Array:
        """(T, P): distance of the surfaces of each pair in m, negative when they overlap."""
        apart = segment_distances(placed[:, self.first], placed[:, self.second])
        clear: Array = apart - (self.radii[self.first] + self.radii[self.second])
        return clear


def body_of(capsules: tuple[Capsule, ...], pairs: tuple[tuple[str, str], ...]) -> Body:
    """`pairs` by name; every name must be a capsule's (the profile checks that)."""
    names = tuple(capsule.name for capsule in capsules)
    return Body(
        links=np.array([capsule.link for capsule in capsules], dtype=np.intp),
        ends=np.array([(capsule.start_m, capsule.end_m) for capsule in capsules]).reshape(-1, 2, 3),
        radii=np.array([capsule.radius_m for capsule in capsules]),
        first=np.array([names.index(a) for a, _ in pairs], dtype=np.intp),
        second=np.array([names.index(b) for _, b in pairs], dtype=np.intp),
        names=names,
    )


def segment_distances(a: Array, b: Array) -> Array:
    """The smallest distance of the segments a (…, 2, 3) and b (…, 2, 3), each from its first to its second point."""
    u, v, w = a[..., 1, :] - a[..., 0, :], b[..., 1, :] - b[..., 0, :], a[..., 0, :] - b[..., 0, :]
    uu, uv, vv, uw, vw = np.vecdot(u, u), np.vecdot(u, v), np.vecdot(v, v), np.vecdot(u, w), np.vecdot(v, w)
    area = uu * vv - uv * uv
    is_skew = area > PARALLEL * uu * vv
    s = np.clip(np.divide(uv * vw - vv * uw, area, out=np.zeros_like(area), where=is_skew), 0.0, 1.0)
    t = np.clip(np.divide(uv * s + vw, vv, out=np.zeros_like(area), where=vv > 0), 0.0, 1.0)
    s = np.clip(np.divide(uv * t - uw, uu, out=np.zeros_like(area), where=uu > 0), 0.0, 1.0)
    gap = w + s[..., np.newaxis] * u - t[..., np.newaxis] * v
    distances: Array = np.sqrt(np.vecdot(gap, gap))
    return distances
