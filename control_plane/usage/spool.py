"""The local spool: where usage events are made durable while Redis is away, fsynced before `append` returns.

Group commit: whatever arrives while one fsync runs shares the next one; files are touched only in one thread, so the event loop
never waits for the disk. A full or read-only disk raises SpoolError and leaves nothing half-done. The journal appends, `replay`
empties.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from control_plane.usage.segment import SegmentWriter, count_frames, frame, segments

SEGMENT_BYTES = 8 * 1024 * 1024

_T = TypeVar("_T")


class SpoolError(Exception):
    """The disk would not take or give something; nothing that was acknowledged is lost by it."""


class Spool:
    """The segments of one folder as one process sees them. `start` before use, `close` at the end, all in one event loop."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._writer: SegmentWriter | None = None  # used only in the thread
        self._counted: dict[Path, tuple[int, int]] = {}  # (frames, bytes) seen so far; used only in the thread

    async def start(self) -> None:
        """Makes the folder and proves that it can be written. Raises SpoolError, so that a deaf spool is found at start-up."""
        await self.in_thread(self._prove_writable)

    async def append(self, payload: bytes) -> None:
        """Returns when the payload is on disk. Raises SpoolError when it is not."""
        if self._is_closed:
            raise SpoolError("the spool is closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((frame(payload), future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await future

    async def seal(self) -> None:
        """Ends the segment being written, so that it can be replayed; the next append begins another."""
        await self.in_thread(self._seal)

    async def waiting(self) -> tuple[int, int]:
        """Segments in the folder and events in them, of living and dead processes alike. Raises SpoolError."""
        return await self.in_thread(self._waiting_now)

    async def close(self) -> None:
        """Waits for what is being written, seals, and stops the thread."""
        self._is_closed = True
        if self._flushing is not None:
            await self._flushing
        with contextlib.suppress(SpoolError):  # everything acknowledged is on disk already
            await self.seal()
        self._thread.shutdown(wait=False)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Runs disk work in the spool's one thread, in order. Raises SpoolError for every OSError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as error:
            raise SpoolError(f"{self.folder}: {error.strerror or error}") from error

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            frames = b"".join(data for data, _ in batch)
            error: SpoolError | None = None
            try:
                await self.in_thread(partial(self._write, frames))
            except SpoolError as failure:
                error = failure
            for _, future in batch:
                _resolve(future, error)
        self._flushing = None

    def _write(self, frames: bytes) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self.folder)
        try:
            self._writer.append(frames)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                self._seal()  # after a failed fsync nobody knows what the file holds: it is never written again
            raise
        if self._writer.size_bytes >= self._segment_bytes:
            self._seal()

    def _seal(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.seal()

    def _prove_writable(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        SegmentWriter(self.folder).seal()

    def _waiting_now(self) -> tuple[int, int]:
        counted: dict[Path, tuple[int, int]] = {}
        for path in segments(self.folder):
            frames, position = self._counted.get(path, (0, 0))
            with contextlib.suppress(FileNotFoundError):  # replayed and removed meanwhile
                more, position = count_frames(path, start_byte=position)
                counted[path] = (frames + more, position)
        self._counted = counted
        return len(counted), sum(frames for frames, _ in counted.values())


def _resolve(future: asyncio.Future[None], error: SpoolError | None) -> None:
    if future.done():  # its waiter was cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
