"""Demonstrations are repeatable, labelled by the expert, and seen through the API's own resize."""

from pathlib import Path

import numpy as np
import pytest

from tabletop.demos import as_seen, collect, load
from tabletop.render import Camera
from tabletop.scene import Tabletop

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("camera")]


def test_the_same_seeds_give_the_same_frames(tmp_path: Path) -> None:
    first, lifted = collect(range(2))
    again, _ = collect(range(2))
    assert lifted == 2
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.chunks, again.chunks)
    first.save(tmp_path, "two")
    (loaded,) = load(tmp_path)
    assert np.array_equal(loaded.images, first.images)
    assert np.array_equal(loaded.truth, first.truth)


def test_a_chunk_is_what_the_expert_says_from_there_on() -> None:
    found, _ = collect(range(1))
    count = len(found.colours)
    assert found.images.shape == (count, 128, 128, 3)
    assert found.chunks.shape == (count, 8, 7)
    assert np.array_equal(found.chunks[0, 1], found.chunks[1, 0])
    assert np.array_equal(found.chunks[-1, 0], found.chunks[-1, 7])


def test_a_picture_of_the_right_size_is_left_alone_without_jpeg(table: Tabletop, camera: Camera) -> None:
    table.reset(1)
    picture = camera.picture()
    assert np.array_equal(as_seen(picture, jpeg_quality=None), picture)
    assert 0 < np.abs(as_seen(picture, jpeg_quality=85).astype(int) - picture).mean() < 6
