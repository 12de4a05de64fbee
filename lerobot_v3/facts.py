"""What a dataset is made of: rate, robot and features, and where each file stands. As values; `info.json` is written from them.

Paths and field names are those of LeRobot's codebase version v3.0. Knows no file content.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

CODEBASE_VERSION = "v3.0"
FILES_PER_CHUNK = 1000
DATA_FILE_MB, VIDEO_FILE_MB = 100, 200

INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

# Every frame has these besides its own features; the writer fills them in.
COUNTED: Mapping[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


class DatasetError(ValueError):
    """What was given cannot be a dataset, or what is on disk is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """So many numbers per frame, each with a name."""

    names: tuple[str, ...]
    dtype: Literal["float32", "int64", "bool"] = "float32"

    def as_info(self) -> dict[str, Any]:
        """As `info.json` has it."""
        return {"dtype": self.dtype, "shape": [len(self.names)], "names": list(self.names)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One camera: uint8 RGB frames of one size."""

    height: int
    width: int

    def as_info(self) -> dict[str, Any]:
        """As `info.json` has it, without what is only known of the encoded file."""
        return {"dtype": "video", "shape": [self.height, self.width, 3], "names": ["height", "width", "channels"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """Everything that is the same for all episodes. Keys: `action`, `observation.state`, `observation.images.NAME`."""

    fps: int
    robot_type: str
    features: Mapping[str, Numbers | Video]

    def __post_init__(self) -> None:
        """Refuses what no reader could open."""
        wrong = [key for key in self.features if "/" in key or not key or key in COUNTED]
        if wrong:
            raise DatasetError(f"{wrong[0]!r} cannot be the name of a feature")
        if self.fps < 1:
            raise DatasetError("fps must be at least 1")

    @property
    def numbers(self) -> dict[str, Numbers]:
        """The features in the tables."""
        return {key: feature for key, feature in self.features.items() if isinstance(feature, Numbers)}

    @property
    def videos(self) -> dict[str, Video]:
        """The features in the videos."""
        return {key: feature for key, feature in self.features.items() if isinstance(feature, Video)}


def place(template: str, number: int, *, video_key: str = "") -> str:
    """The path of file `number`, counted over all chunks."""
    chunk_index, file_index = divmod(number, FILES_PER_CHUNK)
    return template.format(chunk_index=chunk_index, file_index=file_index, video_key=video_key)


def info_json(facts: DatasetFacts, *, episodes: int, frames: int, tasks: int, video: Mapping[str, Any]) -> dict[str, Any]:
    """The whole of `info.json`. `video`: what is known of the encoding."""
    features: dict[str, Any] = {}
    for key, feature in facts.features.items():
        features[key] = feature.as_info()
        if isinstance(feature, Video):
            features[key]["info"] = {"video.height": feature.height, "video.width": feature.width, **video}
    features |= {key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in COUNTED.items()}
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": facts.robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": facts.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": VIDEO if facts.videos else None,
        "features": features,
    }


def facts_of(info: Mapping[str, Any]) -> DatasetFacts:
    """The facts behind an `info.json`. Raises DatasetError for another version or a feature that is not read here."""
    if info.get("codebase_version") != CODEBASE_VERSION:
        raise DatasetError(f"codebase_version is {info.get('codebase_version')!r}; {CODEBASE_VERSION} is read here")
    features = {key: _feature_of(key, feature) for key, feature in info["features"].items() if key not in COUNTED}
    return DatasetFacts(fps=info["fps"], robot_type=info["robot_type"] or "unknown", features=features)


def _feature_of(key: str, feature: Mapping[str, Any]) -> Numbers | Video:
    dtype, shape = feature["dtype"], feature["shape"]
    if dtype == "video":
        return Video(height=shape[0], width=shape[1])
    if len(shape) != 1 or dtype not in {"float32", "int64", "bool"}:
        raise DatasetError(f"feature {key!r} is {dtype} of shape {shape}; rows of float32, int64 or bool are read here")
    names = feature["names"] or [f"{key}_{number}" for number in range(shape[0])]
    return Numbers(names=tuple(names), dtype=dtype)
