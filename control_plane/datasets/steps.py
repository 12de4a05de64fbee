"""A captured episode as an episode of a dataset: one frame per answered request, the action that was given or its correction.

Nothing is invented: a frame without an action (the guard let none through) is left out, an episode that lacks a camera or a state
that the dataset has is skipped, and says why. Another instruction in mid-session begins another episode. Knows no store.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from control_plane.capture.part import Frame, Manifest
from lerobot_v3.facts import DatasetFacts, Numbers, Video
from lerobot_v3.writer import Episode

IMAGES = "observation.images."
STATE, ACTION, SUCCESS, CORRECTED = "observation.state", "action", "next.success", "is_correction"

Taken = tuple[Frame, Mapping[str, bytes]]


class SkippedError(Exception):
    """This episode does not fit; the text is one of few reasons, to be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The feedback on an episode: whether it succeeded, if anybody said so, and corrections by request."""

    is_success: bool | None
    corrections: Mapping[UUID, Sequence[Sequence[float]]]


def facts_of(manifest: Manifest, frames: Sequence[Taken], *, fps: int | None) -> DatasetFacts:
    """The facts of a dataset whose first episode this is. Odd picture sizes lose a row or column: video has none."""
    frame, pictures = frames[0]
    words = manifest.summary.words
    features: dict[str, Numbers | Video] = {}
    if frame.state is not None:
        features[STATE] = Numbers(names=words.state or tuple(f"state_{number}" for number in range(len(frame.state))))
    features[ACTION] = Numbers(names=words.action)
    features[SUCCESS] = Numbers(names=("is_success",), dtype="bool")
    features[CORRECTED] = Numbers(names=("is_correction",), dtype="bool")
    for camera, data in sorted(pictures.items()):
        with _upright(data) as image:
            features[IMAGES + camera] = Video(height=image.height // 2 * 2, width=image.width // 2 * 2)
    return DatasetFacts(fps=fps or max(1, round(words.control_hz)), robot_type=manifest.robot_type, features=features)


def episodes_of(manifest: Manifest, frames: Sequence[Taken], said: Said, facts: DatasetFacts) -> Iterator[Episode]:
    """The episodes of one session. `source` names session, run and content. Raises SkippedError."""
    if manifest.summary.words.action != facts.numbers[ACTION].names:
        raise SkippedError("other action")
    if manifest.robot_type != facts.robot_type:
        raise SkippedError("other robot")
    given = [taken for taken in frames if _action(taken[0], said) is not None]
    if not given:
        raise SkippedError("no action")
    for number, (instruction, run) in enumerate(groupby(given, key=lambda taken: taken[0].instruction)):
        taken = list(run)
        _require(taken, facts)
        yield _episode(f"{manifest.episode.hex}.{number}", instruction, taken, said, facts)


def _episode(name: str, instruction: str, taken: Sequence[Taken], said: Said, facts: DatasetFacts) -> Episode:
    steps = [_action(frame, said) or () for frame, _ in taken]
    if {len(step) for step in steps} != {len(facts.numbers[ACTION].names)}:  # feedback may say any number of numbers
        raise SkippedError("other action")
    actions = np.array(steps, dtype=np.float32)
    is_last = np.arange(len(taken)) == len(taken) - 1
    numbers: dict[str, NDArray[np.generic]] = {
        ACTION: actions,
        SUCCESS: is_last & bool(said.is_success),
        CORRECTED: np.array([frame.request_id in said.corrections for frame, _ in taken]),
    }
    if STATE in facts.features:
        numbers[STATE] = np.array([frame.state for frame, _ in taken], dtype=np.float32)
    videos = {key: _pictures(key.removeprefix(IMAGES), taken, of) for key, of in facts.videos.items()}
    return Episode(source=f"{name}:{_content(taken, actions)}", task=instruction, numbers=numbers, videos=videos)


def _action(frame: Frame, said: Said) -> Sequence[float] | None:
    """The step that was meant for the moment of the picture."""
    chunk = said.corrections.get(frame.request_id) or frame.action
    return chunk[0] if chunk else None


def _require(taken: Sequence[Taken], facts: DatasetFacts) -> None:
    cameras = {key.removeprefix(IMAGES) for key in facts.videos}
    if any(not cameras <= set(pictures) for _, pictures in taken):
        raise SkippedError("missing camera")
    if STATE in facts.features:
        width = len(facts.numbers[STATE].names)
        if any(frame.state is None or len(frame.state) != width for frame, _ in taken):
            raise SkippedError("missing state")


def _pictures(camera: str, taken: Iterable[Taken], video: Video) -> Iterator[NDArray[np.uint8]]:
    for _, pictures in taken:
        with _upright(pictures[camera]) as image:
            shown = image.convert("RGB")
        if shown.size != (video.width, video.height):
            is_a_row_too_many = (shown.width // 2 * 2, shown.height // 2 * 2) == (video.width, video.height)
            size = (video.width, video.height)
            shown = shown.crop((0, 0, *size)) if is_a_row_too_many else shown.resize(size, Image.Resampling.BICUBIC)
        yield np.asarray(shown)


def _upright(data: bytes) -> Image.Image:
    """The picture as the policy saw it: as the camera was held."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


def _content(taken: Sequence[Taken], actions: NDArray[np.float32]) -> str:
    """The same for a session that was sent twice."""
    digest = hashlib.sha256(actions.tobytes())
    for frame, pictures in taken:
        digest.update(frame.instruction.encode())
        digest.update(repr(frame.state).encode())
        for camera in sorted(pictures):
            digest.update(hashlib.sha256(pictures[camera]).digest())
    return digest.hexdigest()[:24]
