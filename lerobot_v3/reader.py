"""Reads a LeRobotDataset v3.0, ours or LeRobot's own with plain rows of numbers: one episode at a time, for trainers.

Numbers come as arrays, frames one after another from the videos, so that no dataset has to fit into memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lerobot_v3 import tables, video
from lerobot_v3.facts import DATA, FILES_PER_CHUNK, INFO, VIDEO, DatasetError, DatasetFacts, facts_of, place


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRow:
    """Where an episode stands. `source` is None in a dataset that was not written here."""

    index: int
    task: str
    length: int
    source: str | None
    file: int
    videos: dict[str, tuple[int, int]]  # file and first frame, per camera


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset on disk."""

    folder: Path
    facts: DatasetFacts
    episodes: tuple[EpisodeRow, ...]

    def numbers(self, episode: EpisodeRow) -> dict[str, NDArray[np.generic]]:
        """Every column of the episode: (T, D), or (T,)."""
        return tables.read_frames(self.folder / place(DATA, episode.file), episode.index)

    def frames(self, episode: EpisodeRow, key: str) -> Iterator[NDArray[np.uint8]]:
        """The T frames of one camera, (H, W, 3) RGB."""
        number, start = episode.videos[key]
        path = self.folder / place(VIDEO, number, video_key=key)
        return video.frames(path, start=start, count=episode.length, fps=self.facts.fps)


def open_dataset(folder: Path) -> Dataset:
    """Raises DatasetError naming what is missing or not understood."""
    if not (folder / INFO).is_file():
        raise DatasetError(f"{folder} has no {INFO}: it is not a LeRobotDataset, or its writing has not ended")
    facts = facts_of(tables.read_json(folder / INFO))
    rows = []
    for row in tables.read_episodes(folder):
        file = row["data/chunk_index"] * FILES_PER_CHUNK + row["data/file_index"]
        starts = {
            key: (
                row[f"videos/{key}/chunk_index"] * FILES_PER_CHUNK + row[f"videos/{key}/file_index"],
                round(row[f"videos/{key}/from_timestamp"] * facts.fps),
            )
            for key in facts.videos
        }
        rows.append(
            EpisodeRow(
                index=row["episode_index"],
                task=row["tasks"][0],
                length=row["length"],
                source=row.get("source"),
                file=file,
                videos=starts,
            )
        )
    return Dataset(folder=folder, facts=facts, episodes=tuple(rows))
