"""Demonstrations are repeatable, labelled by the expert, kept as a LeRobotDataset v3 and seen through the API's own resize."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lerobot_v3.facts import DatasetError, DatasetFacts, Numbers, Video
from lerobot_v3.reader import open_dataset
from lerobot_v3.writer import DatasetWriter, Episode
from tabletop.contract import ACTION, STATE
from tabletop.dataset import ACTION_KEY, FRONT_KEY, STATE_KEY, WRIST_KEY, Progress, record, unpack
from tabletop.demos import Recorded, Recorder, as_seen, chunks_of, record_each
from tabletop.instructions import plain_instruction
from tabletop.render import Camera
from tabletop.scene import Tabletop
from tabletop.verbs import ALL_TASKS

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("camera")]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """The expert at a table, seen by both cameras."""
    with Recorder() as opened:
        yield opened


def test_the_same_seed_is_the_same_episode(recorder: Recorder) -> None:
    first, _, again = (recorder.record(seed) for seed in (1, 2, 1))
    assert first.is_done
    assert (first.task, len(first.frames)) == (again.task, len(again.frames))
    for one, other in zip(first.frames, again.frames, strict=True):
        assert np.array_equal(one.front, other.front)
        assert np.array_equal(one.label, other.label)
        assert np.array_equal(one.truth, other.truth)


def test_a_chunk_is_what_the_expert_says_from_there_on() -> None:
    labels = np.arange(21, dtype=np.float32).reshape(3, 7)
    chunks = chunks_of(labels)
    assert chunks.shape == (3, 8, 7)
    assert np.array_equal(chunks[0, 1], chunks[1, 0])
    assert np.array_equal(chunks[-1, 0], chunks[-1, 7])


def test_a_picture_of_the_right_size_is_left_alone_without_jpeg(table: Tabletop, camera: Camera) -> None:
    table.reset(1)
    picture = camera.picture()
    assert np.array_equal(as_seen(picture, jpeg_quality=None), picture)
    assert 0 < np.abs(as_seen(picture, jpeg_quality=85).astype(int) - picture).mean() < 6


def test_what_was_recorded_is_trained_on_and_a_recording_goes_on_where_it_was(recorder: Recorder, tmp_path: Path) -> None:
    recorded: dict[int, Recorded] = {}

    def expert(seeds: list[int]) -> Iterator[Recorded]:
        for seed in seeds:
            assert seed not in recorded
            recorded[seed] = recorder.record(seed)
            yield recorded[seed]

    reports: list[Progress] = []
    record(tmp_path / "data", range(1), expert, reports.append, has_wrist=True)
    record(tmp_path / "data", range(2), expert, reports.append, has_wrist=True)
    assert [(report.episodes, report.recorded) for report in reports] == [(0, 0), (1, 1), (1, 0), (2, 1)]

    data = open_dataset(tmp_path / "data")
    assert [row.task for row in data.episodes] == [plain_instruction(one.task) for one in recorded.values()]
    wrist = next(data.frames(data.episodes[1], WRIST_KEY))
    assert np.abs(wrist.astype(int) - recorded[1].frames[0].wrist).mean() < 6

    found = unpack(tmp_path / "data", tmp_path / "frames", lambda _: None)
    (shard,) = found.shards
    frames = [frame for one in recorded.values() for frame in one.frames]
    assert (found.episodes, found.left_out, len(shard.tasks)) == (2, 0, len(frames))
    assert np.array_equal(shard.states, np.stack([frame.state for frame in frames]))
    assert np.array_equal(shard.truth, np.stack([frame.truth for frame in frames]))
    assert np.array_equal(shard.chunks[:, 0], np.stack([frame.label for frame in frames]))
    assert ALL_TASKS[shard.tasks[-1]] == recorded[1].task
    assert np.abs(shard.images[3].astype(int) - as_seen(frames[3].front, jpeg_quality=None)).mean() < 4


def test_episodes_recorded_side_by_side_are_those_of_one_process_in_the_order_of_their_seeds(recorder: Recorder) -> None:
    for seed, episode in zip((3, 1, 2), record_each([3, 1, 2], processes=2, has_wrist=False), strict=True):
        alone = recorder.record(seed)
        assert episode.task == alone.task
        assert all(np.array_equal(one.front, other.front) for one, other in zip(episode.frames, alone.frames, strict=True))


def test_the_expert_goes_on_from_where_a_leading_policy_got(recorder: Recorder) -> None:
    asked: list[tuple[tuple[int, ...], str, bool]] = []

    def down(picture: np.ndarray, instruction: str, state: np.ndarray | None) -> np.ndarray:
        asked.append((picture.shape, instruction, state is not None))
        chunk = np.zeros((8, 7), dtype=np.float32)
        chunk[:, 2], chunk[:, 6] = -0.02, 1.0
        return chunk

    alone = {seed: recorder.record(seed) for seed in range(4)}
    led = {seed: recorder.record(seed, down) for seed in range(4)}
    for seed in range(4):
        assert led[seed].task == alone[seed].task
        assert led[seed].frames[0].truth[2] < alone[seed].frames[0].truth[2] - 0.01
    assert {shape for shape, _, _ in asked} == {(128, 128, 3)}
    assert {has_state for _, _, has_state in asked} == {True, False}
    assert sum(one.is_done for one in led.values()) >= 3


def _foreign(folder: Path, task: str, **changes: object) -> Path:
    features = {
        STATE_KEY: Numbers(names=STATE.names),
        ACTION_KEY: Numbers(names=ACTION.names),
        FRONT_KEY: Video(height=64, width=64),
    } | changes
    kept = {key: feature for key, feature in features.items() if isinstance(feature, Numbers | Video)}
    pictures = [np.full((64, 64, 3), 90, dtype=np.uint8)] * 4
    with DatasetWriter(folder, DatasetFacts(fps=10, robot_type="franka_panda", features=kept)) as writer:
        for number, sentence in enumerate((task, "polish the table")):
            numbers = {key: np.zeros((4, len(of.names)), dtype=np.float32) for key, of in kept.items() if isinstance(of, Numbers)}
            videos = {key: pictures for key, of in kept.items() if isinstance(of, Video)}
            writer.add(Episode(source=f"robot-{number}", task=sentence, numbers=numbers, videos=videos))
    return folder


def test_a_dataset_of_other_robots_trains_where_its_tasks_are_known(tmp_path: Path) -> None:
    found = unpack(_foreign(tmp_path / "data", "please lift the blue block"), tmp_path / "frames", lambda _: None)
    assert (found.episodes, found.left_out) == (1, 1)
    assert not found.shards[0].truth.any()  # nobody knows it there


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({ACTION_KEY: Numbers(names=("a", "b"))}, "action must be 7 numbers"),
        ({ACTION_KEY: Numbers(names=tuple(f"joint_{index}" for index in range(1, 8)))}, "dx, dy, dz.*, not joint_1"),
        ({FRONT_KEY: None}, "there is no camera observation.images.front"),
    ],
)
def test_a_dataset_that_cannot_be_trained_on_says_why(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=reason):
        unpack(_foreign(tmp_path / "data", "pick up red cube", **changes), tmp_path / "frames", lambda _: None)


def test_a_dataset_without_a_known_task_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none of its 2 episodes is a task of this table"):
        unpack(_foreign(tmp_path / "data", "dust the shelf"), tmp_path / "frames", lambda _: None)


def test_a_dataset_that_was_written_again_is_not_trained_from_what_it_was(tmp_path: Path) -> None:
    first = unpack(_foreign(tmp_path / "data", "pick up red cube"), tmp_path / "frames", lambda _: None)
    before = {path.name for path in (tmp_path / "frames").iterdir()}
    shutil.rmtree(tmp_path / "data")
    again = unpack(_foreign(tmp_path / "data", "pick up the green cube"), tmp_path / "frames", lambda _: None)
    assert first.shards[0].tasks[0] != again.shards[0].tasks[0]
    assert before.isdisjoint(path.name for path in (tmp_path / "frames").iterdir())
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DatasetError, match="none of its 2 episodes"):
        unpack(_foreign(tmp_path / "data", "dust the shelf"), tmp_path / "frames", lambda _: None)
    assert not list((tmp_path / "frames").iterdir())
