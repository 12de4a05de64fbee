"""Writes a dataset episode by episode, in shards: a file of frames, one video per camera and, last, the episodes' rows.

A shard is there whole or not at all: after a crash the next writer removes what has no rows and goes on behind the last whole
shard; `has` says which episodes need not be added again. `info.json`, `stats.json` and `tasks.parquet` follow from the rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lerobot_v3 import stats, tables
from lerobot_v3.facts import (
    COUNTED,
    DATA,
    EPISODES,
    FILES_PER_CHUNK,
    INFO,
    STATS,
    TASKS,
    VIDEO,
    DatasetError,
    DatasetFacts,
    info_json,
    place,
)
from lerobot_v3.video import VideoFile, described

SHARD_FRAMES = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One run. `source` names it for ever: an episode of the same source is written once.

    `numbers`: (T, D) or (T,) per feature. `videos`: T frames (H, W, 3) uint8 RGB per camera; they may be made while being read.
    """

    source: str
    task: str
    numbers: Mapping[str, NDArray[np.generic]]
    videos: Mapping[str, Iterable[NDArray[np.uint8]]]


class DatasetWriter:
    """Use as `with`: leaving it writes the last shard; leaving it with an error keeps the whole shards only."""

    def __init__(self, folder: Path, facts: DatasetFacts, *, shard_frames: int = SHARD_FRAMES) -> None:
        """Goes on with a dataset of the same facts. Raises DatasetError when `folder` holds anything else."""
        self._folder, self._facts, self._shard_frames = folder, facts, shard_frames
        self._schema = tables.frame_schema(facts)
        _refuse_other(folder, facts)
        folder.mkdir(parents=True, exist_ok=True)
        self._rows = tables.read_episodes(folder)
        self._sources = {row["source"] for row in self._rows}
        self._tasks = list(dict.fromkeys(task for row in self._rows for task in row["tasks"]))
        self._number = 1 + max((_number_of(row) for row in self._rows), default=-1)
        _remove_unfinished(folder, facts, self._number)
        self._shard = _Shard(self._folder, facts, self._number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, failure: BaseException | None, _trace: TracebackType | None) -> None:
        if failure is None:
            self.finish()
        else:
            self.abandon()

    def finish(self) -> None:
        """Writes the last shard and the description. Raises DatasetError for a dataset without an episode."""
        self.commit()
        self.describe()

    def abandon(self) -> None:
        """Lets go of what is not committed."""
        self._shard.abandon()

    def __len__(self) -> int:
        return len(self._rows) + len(self._shard.rows)

    @property
    def frames(self) -> int:
        """How many frames there are so far."""
        return sum(row["length"] for row in (*self._rows, *self._shard.rows))

    @property
    def sources(self) -> frozenset[str]:
        """Of every episode that is in it, or will be."""
        return frozenset(self._sources)

    def has(self, source: str) -> bool:
        """Whether an episode of this source is in it."""
        return source in self._sources

    def add(self, episode: Episode) -> int:
        """Adds one episode and returns its index. Raises DatasetError when it does not fit the facts; then nothing is added."""
        if self.has(episode.source):
            raise DatasetError(f"{episode.source!r} is in the dataset already")
        length = _length_of(episode, self._facts)
        task = self._tasks.index(episode.task) if episode.task in self._tasks else len(self._tasks)
        index, first = len(self), self.frames
        columns = {key: episode.numbers[key].astype(of.dtype) for key, of in self._facts.numbers.items()}
        columns |= _counted(length, fps=self._facts.fps, episode=index, first=first, task=task)
        self._shard.add(episode, tables.frame_table(self._schema, columns), columns)
        if task == len(self._tasks):  # not before: a task whose only episode failed would have a number and no row
            self._tasks.append(episode.task)
        self._sources.add(episode.source)
        if self._shard.frames >= self._shard_frames:
            self.commit()
        return index

    def commit(self) -> None:
        """Makes everything added so far part of the dataset."""
        if self._shard.rows:
            self._shard.write(self._schema)
            self._rows += self._shard.rows
            self._number += 1
            self._shard = _Shard(self._folder, self._facts, self._number)

    def describe(self) -> None:
        """Writes `info.json`, `stats.json` and `tasks.parquet` of what is committed."""
        if not self._rows:
            raise DatasetError("a dataset without an episode cannot be read: nothing was written")
        keys = (*self._facts.features, *COUNTED)
        parts = {key: [_stats_of(row, key) for row in self._rows] for key in keys}
        whole = {key: {name: value.tolist() for name, value in stats.together(of).items()} for key, of in parts.items()}
        tables.write_json(self._folder / STATS, whole)
        tables.write_tasks(self._folder / TASKS, self._tasks)
        frames, video = sum(row["length"] for row in self._rows), described(self._facts.fps)
        info = info_json(self._facts, episodes=len(self._rows), frames=frames, tasks=len(self._tasks), video=video)
        tables.write_json(self._folder / INFO, info)


class _Shard:
    """The files of one number, not yet part of the dataset.

    Frames of an episode that turned out not to fit stay in the video, where no row points at them.
    """

    def __init__(self, folder: Path, facts: DatasetFacts, number: int) -> None:
        self._folder, self._facts, self._number = folder, facts, number
        self._tables: list[pa.Table] = []
        self._videos: dict[str, VideoFile] = {}
        self.rows: list[dict[str, Any]] = []
        self.frames = 0

    def add(self, episode: Episode, table: pa.Table, columns: Mapping[str, NDArray[np.generic]]) -> None:
        length = table.num_rows
        starts = {key: self._videos[key].frames if key in self._videos else 0 for key in self._facts.videos}
        counted = {key: stats.of_rows(column) for key, column in columns.items()}
        for key in self._facts.videos:
            counted[key] = self._encode(key, episode.videos[key], length)
        self._tables.append(table)
        self.frames += length
        self.rows.append(self._row(episode, columns, starts, counted))

    def write(self, schema: pa.Schema) -> None:
        for key, video in self._videos.items():
            video.close()
            path = self._video(key)
            path.with_name(path.name + tables.PART).replace(path)
        tables.write_frames(self._folder / place(DATA, self._number), schema, self._tables)
        tables.write_episodes(self._folder / place(EPISODES, self._number), self.rows)

    def abandon(self) -> None:
        for key, video in self._videos.items():
            video.close()
            path = self._video(key)
            path.with_name(path.name + tables.PART).unlink(missing_ok=True)

    def _encode(self, key: str, pictures: Iterable[NDArray[np.uint8]], length: int) -> dict[str, stats.Array]:
        if key not in self._videos:
            path = self._video(key)
            part = path.with_name(path.name + tables.PART)
            self._videos[key] = VideoFile(part, self._facts.videos[key], fps=self._facts.fps)
        file, kept = self._videos[key], []
        for index, picture in enumerate(_exactly(length, pictures, key)):
            file.add(picture)
            if stats.is_counted(index, length):
                kept.append(picture)
        return stats.of_pictures(kept)

    def _row(
        self, episode: Episode, columns: Mapping[str, Any], starts: Mapping[str, int], counted: Mapping[str, stats.Stats]
    ) -> dict[str, Any]:
        chunk, file = divmod(self._number, FILES_PER_CHUNK)
        length, first = len(columns["index"]), int(columns["index"][0])
        row = {
            "episode_index": int(columns["episode_index"][0]),
            "tasks": [episode.task],
            "length": length,
            "source": episode.source,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": first,
            "dataset_to_index": first + length,
        }
        for key, start in starts.items():
            row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"] = chunk, file
            row[f"videos/{key}/from_timestamp"] = start / self._facts.fps
            row[f"videos/{key}/to_timestamp"] = (start + length) / self._facts.fps
        for key, of in counted.items():
            row |= {f"stats/{key}/{name}": value.astype(int if name == "count" else float).tolist() for name, value in of.items()}
        return row | {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}

    def _video(self, key: str) -> Path:
        return self._folder / place(VIDEO, self._number, video_key=key)


def _exactly(length: int, pictures: Iterable[NDArray[np.uint8]], key: str) -> Iterator[NDArray[np.uint8]]:
    count = 0
    for picture in pictures:
        count += 1
        if count > length:
            break
        yield picture
    if count != length:
        raise DatasetError(f"{key} has {'more' if count > length else count} frames, the episode has {length}")


def _length_of(episode: Episode, facts: DatasetFacts) -> int:
    if set(episode.numbers) != set(facts.numbers) or set(episode.videos) != set(facts.videos):
        raise DatasetError(f"an episode must have exactly {', '.join(facts.features)}")
    lengths = {len(column) for column in episode.numbers.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise DatasetError(f"the features of {episode.source!r} have {sorted(lengths)} frames")
    for key, of in facts.numbers.items():
        shape, dtype = episode.numbers[key].shape, episode.numbers[key].dtype
        if len(of.names) != int(np.prod(shape[1:])):
            raise DatasetError(f"{key} has shape {shape}; it has {len(of.names)} names")
        if dtype.kind == "f" and not np.isfinite(np.asarray(episode.numbers[key], dtype=np.float64)).all():
            raise DatasetError(f"{key} of {episode.source!r} is not finite")
    return lengths.pop()


def _counted(length: int, *, fps: int, episode: int, first: int, task: int) -> dict[str, NDArray[np.generic]]:
    frames = np.arange(length, dtype=np.int64)
    return {
        "timestamp": (frames / fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(length, episode, dtype=np.int64),
        "index": frames + first,
        "task_index": np.full(length, task, dtype=np.int64),
    }


def _stats_of(row: Mapping[str, Any], key: str) -> dict[str, stats.Array]:
    return {name: np.array(row[f"stats/{key}/{name}"], dtype=np.float64) for name in stats.NAMES}


def _number_of(row: Mapping[str, Any]) -> int:
    return int(row["data/chunk_index"]) * FILES_PER_CHUNK + int(row["data/file_index"])


def _refuse_other(folder: Path, facts: DatasetFacts) -> None:
    marker = folder / "meta/facts.json"
    described = {"fps": facts.fps, "robot_type": facts.robot_type}
    described |= {"features": {key: feature.as_info() for key, feature in facts.features.items()}}
    if marker.exists():
        if tables.read_json(marker) != described:
            raise DatasetError(f"{folder} holds a dataset with other features, rate or robot")
    elif folder.exists() and any(folder.iterdir()):
        raise DatasetError(f"{folder} is neither empty nor a dataset that was written here")
    else:
        tables.write_json(marker, described)


def _remove_unfinished(folder: Path, facts: DatasetFacts, number: int) -> None:
    """Files of the shard that never got its rows."""
    candidates = [place(DATA, number), *(place(VIDEO, number, video_key=key) for key in facts.videos)]
    for path in map(folder.__truediv__, candidates):
        path.unlink(missing_ok=True)
        path.with_name(path.name + tables.PART).unlink(missing_ok=True)
