"""Capsule distances against MuJoCo's frozen answers and against brute force, and what the capsules cover of the real arm."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.arm_tables import body_from, chain_of
from safety.capsules import Body, segment_distances
from safety.kinematics import Frames
from tests.safety.factories import READY, panda
from tests.safety.oracles.joints import configurations

HERE = Path(__file__).parent
MESHES = HERE.parents[1] / "tabletop" / "assets" / "panda"
HAND_TURN = np.pi / 4  # the hand's frame is turned against the flange's


def body() -> Body:
    geometry = panda().geometry
    assert geometry is not None
    return body_from(geometry)


def frames_at(q: NDArray[np.float64]) -> Frames:
    table = panda().kinematics
    assert table is not None
    return chain_of(table).frames(q)


def test_ten_thousand_configurations_collide_where_mujoco_says() -> None:
    frozen = np.load(HERE / "oracles" / "collisions.npz")["smallest"].astype(np.float64)
    joints = panda().joints
    q = configurations(np.array(joints.position_min_rad.values), np.array(joints.position_max_rad.values), len(frozen))
    found = body().clearances(body().placed(frames_at(q))).min(axis=1)
    assert np.abs(found - frozen).max() < 1e-6
    disagree = (found <= 0) != (frozen <= 0)
    assert (np.abs(frozen[disagree]) < 1e-3).all()
    assert 500 < (frozen <= 0).sum() < 1500


def test_segments_are_as_near_as_brute_force_finds() -> None:
    random = np.random.default_rng(5)
    a, b = random.uniform(-1, 1, (200, 2, 3)), random.uniform(-1, 1, (200, 2, 3))
    b[:20, 1] = b[:20, 0] + (a[:20, 1] - a[:20, 0]) * 0.7  # parallel
    a[20:30, 1] = a[20:30, 0]  # points
    b[25:35, 1] = b[25:35, 0]
    along = np.linspace(0, 1, 201)[:, np.newaxis, np.newaxis]
    on_a, on_b = a[:, 0] + along * (a[:, 1] - a[:, 0]), b[:, 0] + along * (b[:, 1] - b[:, 0])
    brute = np.sqrt(((on_a[:, np.newaxis] - on_b[np.newaxis]) ** 2).sum(axis=-1)).min(axis=(0, 1))
    found = segment_distances(a, b)
    assert (found <= brute + 1e-12).all()
    assert np.abs(found - brute).max() < 0.01


def test_crossing_segments_touch() -> None:
    cross = segment_distances(np.array([[-1.0, 0, 0], [1, 0, 0]]), np.array([[0.0, -1, 0], [0, 1, 0]]))
    assert float(cross) == 0.0


def test_the_ready_arm_is_clear() -> None:
    assert body().clearances(body().placed(frames_at(np.array([READY])))).min() > 0.1


def vertices(name: str) -> NDArray[np.float64]:
    data = (MESHES / f"{name}.stl").read_bytes()
    triangle = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    count = int.from_bytes(data[80:84], "little")
    return np.unique(np.frombuffer(data, dtype=triangle, count=count, offset=84)["corners"].reshape(-1, 3), axis=0).astype(float)


@pytest.mark.parametrize(("link", "largest_m"), [(0, 0.011), *[(link, 0.0) for link in range(1, 8)], (8, 0.007)])
def test_with_their_neighbours_the_capsules_cover_the_meshes_of_the_real_arm(link: int, largest_m: float) -> None:
    points = vertices("hand" if link == 8 else f"link{link}")
    if link == 8:
        turn = np.array([[np.cos(HAND_TURN), np.sin(HAND_TURN), 0], [-np.sin(HAND_TURN), np.cos(HAND_TURN), 0], [0, 0, 1]])
        points = points @ turn.T
    joints = panda().joints
    q = configurations(np.array(joints.position_min_rad.values), np.array(joints.position_max_rad.values), 12)
    frames, arm = frames_at(q), body()
    placed, near = arm.placed(frames), np.abs(arm.links - link) <= 1
    for row in range(len(q)):
        at = points if link == 0 else points @ frames.rotations[row, link - 1].T + frames.positions[row, link - 1]
        dots = np.stack([at, at], axis=1)[:, np.newaxis]
        outside = (segment_distances(dots, placed[row, near][np.newaxis]) - arm.radii[near]).min(axis=1)
        assert outside.max() <= largest_m
