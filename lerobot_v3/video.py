"""H.264 in MP4: one file with the frames of several episodes, one after another, exactly 1/fps apart.

A key frame every second frame, no frames out of order: any frame is read at the cost of two. One thread, so that the same frames
give the same file. Knows no dataset.
"""

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from lerobot_v3.facts import DatasetError, Video

CODEC = "libx264"
_OPTIONS = {"g": "2", "crf": "20", "bf": "0", "preset": "veryfast"}


def described(video_fps: int) -> dict[str, Any]:
    """What `info.json` says of the encoding."""
    return {
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": video_fps,
        "video.channels": 3,
        "has_audio": False,
    }


class VideoFile:
    """A file that is being written. It can be read only after `close`."""

    def __init__(self, path: Path, video: Video, *, fps: int) -> None:
        if video.height % 2 or video.width % 2:
            raise DatasetError(f"a video of {video.width}×{video.height} cannot be encoded: both must be even")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._video = video
        self._container = av.open(str(path), "w", format="mp4")
        self._stream: Any = self._container.add_stream(CODEC, rate=fps, options=_OPTIONS)
        self._stream.width, self._stream.height, self._stream.pix_fmt = video.width, video.height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, fps)
        self._stream.codec_context.thread_count = 1
        self.frames = 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        """The next frame. Raises DatasetError for another size."""
        if picture.shape != (self._video.height, self._video.width, 3) or picture.dtype != np.uint8:
            wanted = (self._video.height, self._video.width, 3)
            raise DatasetError(f"a frame is {picture.dtype} of shape {picture.shape}, not uint8 of shape {wanted}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = self.frames, self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Writes what is missing; the file is whole after it."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def frames(path: Path, *, start: int, count: int, fps: int) -> Iterator[NDArray[np.uint8]]:
    """`count` frames from number `start` on, as (H, W, 3) RGB. Raises DatasetError when the file has fewer."""
    with closing(av.open(str(path))) as container:
        stream: Any = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(round(start / fps / stream.time_base), stream=stream)
        found = 0
        for frame in container.decode(stream):
            if round(frame.pts * frame.time_base * fps) < start:
                continue
            yield frame.to_ndarray(format="rgb24")
            found += 1
            if found == count:
                return
    raise DatasetError(f"{path.name} has {found} of the {count} frames from {start} on")
