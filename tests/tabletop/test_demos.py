"""Demonstrations are repeatable, labelled by the expert, seen through the API's own resize, and made again where they stopped."""

from pathlib import Path

import numpy as np
import pytest

from tabletop.demos import as_seen, collect
from tabletop.render import Camera
from tabletop.scene import Tabletop
from tabletop.shards import Demonstrations, Made, load, make, summary
from tabletop.verbs import ALL_TASKS

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("camera")]


def test_the_same_seeds_give_the_same_frames(tmp_path: Path) -> None:
    first, done = collect(range(2))
    again, _ = collect(range(2))
    assert done == 2
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.chunks, again.chunks)
    first.save(tmp_path, "two")
    (loaded,) = load(tmp_path)
    assert np.array_equal(loaded.images, first.images)
    assert np.array_equal(loaded.truth, first.truth)
    assert loaded.episodes.sum() == len(loaded.tasks)
    assert all(0 <= task < len(ALL_TASKS) for task in loaded.tasks)


def test_a_chunk_is_what_the_expert_says_from_there_on() -> None:
    found, _ = collect(range(1))
    count = len(found.tasks)
    assert found.images.shape == (count, 128, 128, 3)
    assert found.chunks.shape == (count, 8, 7)
    assert np.array_equal(found.chunks[0, 1], found.chunks[1, 0])
    assert np.array_equal(found.chunks[-1, 0], found.chunks[-1, 7])


def test_a_picture_of_the_right_size_is_left_alone_without_jpeg(table: Tabletop, camera: Camera) -> None:
    table.reset(1)
    picture = camera.picture()
    assert np.array_equal(as_seen(picture, jpeg_quality=None), picture)
    assert 0 < np.abs(as_seen(picture, jpeg_quality=85).astype(int) - picture).mean() < 6


def _made_up(seeds: range) -> tuple[Demonstrations, int]:
    count = len(seeds)
    return (
        Demonstrations(
            images=np.zeros((count, 128, 128, 3), dtype=np.uint8),
            states=np.zeros((count, 8), dtype=np.float32),
            tasks=np.array(seeds, dtype=np.int64) % len(ALL_TASKS),
            chunks=np.zeros((count, 8, 7), dtype=np.float32),
            truth=np.zeros((count, 8), dtype=np.float32),
            episodes=np.ones(count, dtype=np.int64),
        ),
        count - 1,
    )


def test_a_run_that_was_stopped_goes_on_with_the_shards_that_are_missing(tmp_path: Path) -> None:
    asked: list[range] = []
    reports: list[Made] = []

    def collected(seeds: range) -> tuple[Demonstrations, int]:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(seeds)
        return _made_up(seeds)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, range(10, 21), 4, collected, reports.append)
    (tmp_path / "seeds-10-14.npz").unlink()  # a shard that was lost is made again too
    asked.clear()

    def rest(seeds: range) -> tuple[Demonstrations, int]:
        asked.append(seeds)
        return _made_up(seeds)

    made = make(tmp_path, range(10, 21), 4, rest, reports.append)
    assert asked == [range(10, 14), range(18, 21)]
    assert (made.episodes, made.frames, made.done) == (11, 11, 8)
    assert summary(tmp_path) == {"episodes": 11, "done": 8, "frames": 11}
    assert sum(len(shard.tasks) for shard in load(tmp_path)) == 11
    assert [report.episodes for report in reports] == [4, 8, 8, 11]
