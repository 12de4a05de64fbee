"""Demonstrations as a LeRobotDataset v3, and any such dataset of this robot as frames to train on.

`record` adds episodes of the expert, `unpack` cuts a dataset into shards through the API's own resize. A dataset of customers'
robots trains as ours does where its tasks are sentences of the grammar; the others are counted and left out. It knows no network.
"""

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from export.contract.preprocess import resize
from lerobot_v3.facts import INFO, DatasetError, DatasetFacts, Numbers, Video
from lerobot_v3.reader import Dataset, EpisodeRow, open_dataset
from lerobot_v3.writer import DatasetWriter, Episode
from tabletop.contract import ACTION, CAMERA, CONTROL_HZ, STATE
from tabletop.demos import RENDER_PX, Recorded, chunks_of
from tabletop.instructions import UnknownTask, plain_instruction, understood
from tabletop.parallel import in_order
from tabletop.shards import Demonstrations, has, load
from tabletop.verbs import ALL_TASKS
from tabletop.world import FRONT, WRIST

ACTION_KEY, STATE_KEY, TRUTH_KEY = "action", "observation.state", "observation.environment_state"
FRONT_KEY, WRIST_KEY = f"observation.images.{FRONT}", f"observation.images.{WRIST}"
TRUTH_NAMES = ("tool_x", "tool_y", "tool_z", "finger_width", "gap_x", "gap_y", "gap_z", "turn_to_grasp")
EPISODES_PER_SHARD = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a recording is, with what was there before. `done` counts only this run's episodes that did their task."""

    episodes: int
    frames: int
    recorded: int
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A dataset, ready to train on. `left_out` episodes are of tasks that this table does not know."""

    shards: list[Demonstrations]
    episodes: int
    left_out: int


def facts(*, has_wrist: bool) -> DatasetFacts:
    """What every recording has. The truth of the simulation is there for training alone."""
    cameras = {key: Video(height=RENDER_PX, width=RENDER_PX) for key in (FRONT_KEY, WRIST_KEY)[: 1 + has_wrist]}
    numbers = {STATE_KEY: Numbers(names=STATE.names), ACTION_KEY: Numbers(names=ACTION.names)}
    numbers[TRUTH_KEY] = Numbers(names=TRUTH_NAMES)
    return DatasetFacts(fps=int(CONTROL_HZ), robot_type="franka_panda", features={**numbers, **cameras})


def record(
    folder: Path,
    seeds: Iterable[int],
    expert: Callable[[list[int]], Iterable[Recorded]],
    report: Callable[[Progress], None],
    *,
    has_wrist: bool,
) -> None:
    """Adds what `expert` gives for the seeds that are not there yet. Raises DatasetError when `folder` holds something else."""
    recorded = done = 0
    with DatasetWriter(folder, facts(has_wrist=has_wrist)) as writer:
        missing = [seed for seed in seeds if not writer.has(_source(seed))]
        report(Progress(episodes=len(writer), frames=writer.frames, recorded=0, done=0))
        for seed, episode in zip(missing, expert(missing), strict=True):
            writer.add(_episode(_source(seed), episode, has_wrist=has_wrist))
            recorded, done = recorded + 1, done + episode.is_done
            report(Progress(episodes=len(writer), frames=writer.frames, recorded=recorded, done=done))


def _source(seed: int) -> str:
    return f"tabletop-{seed}"


def unpack(folder: Path, out: Path, report: Callable[[str], None], *, processes: int = 1) -> Unpacked:
    """Writes the shards that are not in `out` yet, and opens all. Raises DatasetError."""
    dataset = open_dataset(folder)
    _check(dataset)
    usable = [episode for episode in dataset.episodes if _is_understood(episode.task)]
    starts = range(0, len(usable), EPISODES_PER_SHARD)
    parts = {_name(folder, part): part for part in (usable[start : start + EPISODES_PER_SHARD] for start in starts)}
    missing = [name for name in parts if not has(out, name)]
    opens = functools.partial(_cutting, folder, out)
    for done, episodes in enumerate(in_order(opens, ((name, parts[name]) for name in missing), processes=processes), start=1):
        report(f"unpacked {episodes} episodes, part {done} of {len(missing)}")
    for stale in [path for path in out.glob("episodes-*") if path.name.partition(".")[0] not in parts]:
        stale.unlink()  # of a dataset that was another then: what was deleted from it is not trained on
    if not usable:
        raise DatasetError(f"{folder}: none of its {len(dataset.episodes)} episodes is a task of this table")
    found = [load(out, name) for name in parts]
    return Unpacked(shards=found, episodes=len(usable), left_out=len(dataset.episodes) - len(usable))


def _name(folder: Path, part: list[EpisodeRow]) -> str:
    return f"episodes-{part[0].index:06d}-{part[-1].index:06d}-{_stamp(folder, part):08x}"


@contextmanager
def _cutting(folder: Path, out: Path) -> Iterator[Callable[[str, list[EpisodeRow]], int]]:
    dataset = open_dataset(folder)

    def cut(name: str, part: list[EpisodeRow]) -> int:
        _joined([_unpacked(dataset, episode) for episode in part]).save(out, name)
        return len(part)

    yield cut


def _stamp(folder: Path, part: list[EpisodeRow]) -> int:
    """Changes when the dataset was written again, or when tasks are counted otherwise."""
    told = [(one.index, one.source, one.task, one.length) for one in part]
    return zlib.crc32(repr((told, ALL_TASKS, (folder / INFO).stat().st_mtime_ns)).encode())


def _episode(source: str, recorded: Recorded, *, has_wrist: bool) -> Episode:
    videos: dict[str, Any] = {FRONT_KEY: [frame.front for frame in recorded.frames]}
    if has_wrist:
        videos[WRIST_KEY] = [frame.wrist for frame in recorded.frames]
    return Episode(
        source=source,
        task=plain_instruction(recorded.task),
        numbers={
            STATE_KEY: np.stack([frame.state for frame in recorded.frames]),
            ACTION_KEY: np.stack([frame.label for frame in recorded.frames]),
            TRUTH_KEY: np.stack([frame.truth for frame in recorded.frames]),
        },
        videos=videos,
    )


def _check(dataset: Dataset) -> None:
    features = dataset.facts.features
    for key, names in ((ACTION_KEY, ACTION.names), (STATE_KEY, STATE.names)):
        found = features.get(key)
        if not isinstance(found, Numbers) or found.names != names:
            told = f", not {', '.join(found.names)}" if isinstance(found, Numbers) else ""
            raise DatasetError(f"{dataset.folder}: {key} must be {len(names)} numbers ({', '.join(names)}){told}")
    if not isinstance(features.get(FRONT_KEY), Video):
        raise DatasetError(f"{dataset.folder}: there is no camera {FRONT_KEY}")
    if dataset.facts.fps != CONTROL_HZ:
        raise DatasetError(f"{dataset.folder}: {dataset.facts.fps} frames a second; this policy moves at {CONTROL_HZ:g}")


def _unpacked(dataset: Dataset, episode: EpisodeRow) -> Demonstrations:
    numbers = dataset.numbers(episode)
    count = episode.length
    truth = numbers.get(TRUTH_KEY, np.zeros((count, len(TRUTH_NAMES)), dtype=np.float32))
    task = ALL_TASKS.index(understood(episode.task))
    return Demonstrations(
        images=np.stack([resize(Image.fromarray(frame), CAMERA) for frame in dataset.frames(episode, FRONT_KEY)]),
        states=np.asarray(numbers[STATE_KEY], dtype=np.float32),
        tasks=np.full(count, task, dtype=np.int64),
        chunks=chunks_of(np.asarray(numbers[ACTION_KEY], dtype=np.float32)),
        truth=np.asarray(truth, dtype=np.float32),
        episodes=np.array([count], dtype=np.int64),
    )


def _joined(parts: list[Demonstrations]) -> Demonstrations:
    names = ("images", "states", "tasks", "chunks", "truth", "episodes")
    return Demonstrations(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _is_understood(sentence: str) -> bool:
    try:
        understood(sentence)
    except UnknownTask:
        return False
    return True
