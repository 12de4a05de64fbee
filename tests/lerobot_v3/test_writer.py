"""What is written is found again, a crash leaves whole shards only, and what does not fit is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lerobot_v3.facts import DatasetError, DatasetFacts, Video
from lerobot_v3.reader import open_dataset
from lerobot_v3.writer import DatasetWriter
from tests.lerobot_v3.runs import FACTS, FRONT, pictures, run, shade


def write(folder: Path, numbers: range, *, shard_frames: int = 15) -> None:
    with DatasetWriter(folder, FACTS, shard_frames=shard_frames) as writer:
        for number in numbers:
            writer.add(run(number, length=5 + number, task=f"task {number % 2}"))


def test_numbers_and_frames_are_found_again_in_every_shard(tmp_path: Path) -> None:
    write(tmp_path, range(6))
    dataset = open_dataset(tmp_path)
    assert [(row.index, row.length, row.task, row.source) for row in dataset.episodes] == [
        (number, 5 + number, f"task {number % 2}", f"run-{number}") for number in range(6)
    ]
    assert len({row.file for row in dataset.episodes}) == 3
    first = 0
    for row in dataset.episodes:
        columns, given = dataset.numbers(row), run(row.index, length=row.length)
        for key in FACTS.numbers:
            np.testing.assert_array_equal(columns[key], given.numbers[key])
        np.testing.assert_array_equal(columns["timestamp"], (np.arange(row.length) / 10).astype(np.float32))
        np.testing.assert_array_equal(columns["index"], np.arange(first, first + row.length))
        first += row.length
        greys = [int(frame.mean().round()) for frame in dataset.frames(row, FRONT)]
        assert greys == pytest.approx([shade(row.index, frame) for frame in range(row.length)], abs=3)


def test_the_layout_is_the_one_that_lerobot_asks_for(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"], info["total_tasks"]) == ("v3.0", 3, 18, 2)
    assert info["splits"] == {"train": "0:3"}
    assert info["features"][FRONT]["shape"] == [48, 64, 3]
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]
    assert tasks.to_pydict() == {"task_index": [0, 1], "__index_level_0__": ["task 0", "task 1"]}
    assert pq.ParquetFile(tmp_path / "data/chunk-000/file-000.parquet").num_row_groups == 3
    rows = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row[f"videos/{FRONT}/from_timestamp"] for row in rows] == pytest.approx([0.0, 0.5, 1.1])
    assert (rows[2]["dataset_from_index"], rows[2]["dataset_to_index"]) == (11, 18)


def test_statistics_are_those_of_all_frames(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    stats = json.loads((tmp_path / "meta/stats.json").read_text())
    states = np.concatenate([run(number, length=5 + number).numbers["observation.state"] for number in range(4)])
    of_state = stats["observation.state"]
    np.testing.assert_allclose(of_state["mean"], states.mean(0), rtol=1e-6)
    np.testing.assert_allclose(of_state["std"], states.std(0), rtol=1e-6)
    np.testing.assert_array_equal(of_state["max"], states.max(0))
    assert of_state["count"] == [len(states)]
    assert np.shape(stats[FRONT]["mean"]) == (3, 1, 1)
    assert 0 < stats[FRONT]["mean"][0][0][0] < 1


def test_what_was_not_whole_at_a_crash_is_written_again(tmp_path: Path) -> None:
    write(tmp_path / "through", range(5))

    class KilledError(Exception):
        pass

    def killed() -> None:
        with DatasetWriter(tmp_path / "again", FACTS, shard_frames=15) as writer:
            for number in range(5):
                if number == 4:
                    raise KilledError  # the first shard is whole, the second has one episode that nobody committed
                writer.add(run(number, length=5 + number, task=f"task {number % 2}"))

    with pytest.raises(KilledError):
        killed()
    leftover = tmp_path / "again" / "videos" / FRONT / "chunk-000" / "file-001.mp4"
    leftover.write_bytes(b"half a video")
    with DatasetWriter(tmp_path / "again", FACTS, shard_frames=15) as writer:
        assert [number for number in range(5) if writer.has(f"run-{number}")] == [0, 1, 2]
        for number in range(3, 5):
            writer.add(run(number, length=5 + number, task=f"task {number % 2}"))
    once, again = (sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("through", "again"))
    assert [path.relative_to(tmp_path / "through") for path in once] == [path.relative_to(tmp_path / "again") for path in again]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(once, again, strict=True))


def test_an_episode_that_does_not_fit_leaves_the_others_whole(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, FACTS) as writer:
        writer.add(run(0))
        with pytest.raises(DatasetError, match="has 3 frames, the episode has 7"):
            writer.add(replace(run(1), videos={FRONT: pictures(1, 3)}))
        with pytest.raises(DatasetError, match="has more frames"):
            writer.add(replace(run(1), videos={FRONT: pictures(1, 9)}))
        with pytest.raises(DatasetError, match="not finite"):
            writer.add(replace(run(1), numbers={**run(1).numbers, "action": np.full((7, 2), np.nan, dtype=np.float32)}))
        with pytest.raises(DatasetError, match="in the dataset already"):
            writer.add(run(0))
        writer.add(run(2))
    dataset = open_dataset(tmp_path)
    assert [row.source for row in dataset.episodes] == ["run-0", "run-2"]
    greys = [int(frame.mean().round()) for frame in dataset.frames(dataset.episodes[1], FRONT)]
    assert greys == pytest.approx([shade(2, frame) for frame in range(7)], abs=3)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(DatasetError, match="neither empty nor a dataset"):
        DatasetWriter(tmp_path, FACTS)
    write(tmp_path / "there", range(1))
    with pytest.raises(DatasetError, match="other features"):
        DatasetWriter(tmp_path / "there", replace(FACTS, fps=20))


def test_what_no_reader_could_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be the name"):
        DatasetFacts(fps=10, robot_type="x", features={"a/b": Video(height=2, width=2)})
    with pytest.raises(DatasetError, match="it is not a LeRobotDataset"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="without an episode"), DatasetWriter(tmp_path / "empty", FACTS):
        pass
