"""The requests' side: takes samples into a bounded queue and writes them to local files in a thread of its own.

`offer` never waits, never raises and costs microseconds; what does not fit is dropped and counted. Files are the journal's
segments without its fsync: a killed process loses nothing that was written, a power cut may lose seconds. Knows no object store.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Protocol

from prometheus_client import Counter
from structlog.typing import FilteringBoundLogger

from control_plane.capture.sample import Sample, encode
from control_plane.metrics import Metrics
from control_plane.sampling import Rules
from control_plane.usage.segment import SegmentWriter, frame, segments

SEGMENT_BYTES = 8 * 1024 * 1024
QUEUE_BYTES = 32 * 1024 * 1024
_AT_ONCE = 64
_LINGER_S = 0.2  # a thread that wakes for each frame costs five times what the frame does
_OVERHEAD_BYTES = 1_000  # of a sample, besides its pictures


class Capture(Protocol):
    """What the pipeline asks of it."""

    @property
    def rules(self) -> Rules | None:
        """Which samples are wanted; None: none at all."""

    def offer(self, sample: Sample) -> None:
        """Takes it, or counts that it was dropped."""


class NoCapture:
    """For a service without an object store: nothing is ever taken."""

    rules: Rules | None = None

    def offer(self, sample: Sample) -> None:
        """Never called: there are no rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may wait, and how long a file grows before it is handed on."""

    spool_bytes: int
    seal_s: float
    queue_bytes: int = QUEUE_BYTES
    segment_bytes: int = SEGMENT_BYTES


class LocalCapture:
    """Writes to `folder`. `start` before use, `close` at the end; both in the loop's thread."""

    def __init__(self, folder: Path, *, rules: Rules, bounds: Bounds, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self.rules: Rules | None = rules
        self._folder, self._bounds, self._log = folder, bounds, log
        self._queue: SimpleQueue[tuple[Sample, int] | None] = SimpleQueue()
        self._taken_bytes = 0  # counted up by the loop's thread
        self._done_bytes = 0  # counted up by the writer's: neither needs a lock
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._writer: SegmentWriter | None = None
        self._opened_s = 0.0
        self._is_failing = False
        self._is_ending = threading.Event()
        outcomes = ("spooled", "dropped_queue", "dropped_spool", "dropped_disk")
        self.counts: Mapping[str, Counter] = {name: metrics.capture_frames.labels(outcome=name) for name in outcomes}
        self._spool_bytes = metrics.capture_spool_bytes

    def start(self) -> None:
        """Makes the folder and begins writing. Raises OSError when it cannot be written."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        SegmentWriter(self._folder).seal()
        self._thread.start()

    def offer(self, sample: Sample) -> None:
        """See Capture."""
        size = _OVERHEAD_BYTES + sum(len(shot.data) for shot in sample.shots)
        if self._taken_bytes - self._done_bytes + size > self._bounds.queue_bytes:
            self.counts["dropped_queue"].inc()
            return
        self._taken_bytes += size
        self._queue.put((sample, size))

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Writes what waits and seals the file."""
        if self._thread.is_alive():
            self._is_ending.set()
            self._queue.put(None)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        is_ending = False
        while not is_ending:
            batch, is_ending = self._batch()
            if batch:
                self._write([sample for sample, _ in batch])
                self._done_bytes += sum(size for _, size in batch)
            if is_ending or (self._writer is not None and monotonic() - self._opened_s >= self._bounds.seal_s):
                self._seal()

    def _batch(self) -> tuple[list[tuple[Sample, int]], bool]:
        """What waits, at most `_AT_ONCE`; nothing after a while without any. True at the end."""
        batch: list[tuple[Sample, int]] = []
        try:
            while len(batch) < _AT_ONCE:
                taken = self._awaited() if not batch and self._queue.empty() else self._queue.get_nowait()
                if taken is None:
                    return batch, True
                batch.append(taken)
        except Empty:
            pass
        return batch, False

    def _awaited(self) -> tuple[Sample, int] | None:
        """The next one, a moment after it came, so that others come meanwhile. Raises Empty."""
        taken = self._queue.get(timeout=self._bounds.seal_s / 4)
        if taken is not None:
            self._is_ending.wait(_LINGER_S)
        return taken

    def _write(self, batch: list[Sample]) -> None:
        try:
            if self._writer is None and not self._open():
                self.counts["dropped_spool"].inc(len(batch))
                return
            assert self._writer is not None  # noqa: S101 -- `_open` has just made it
            self._writer.append(b"".join(frame(encode(sample)) for sample in batch))
        except (OSError, TypeError, ValueError, OverflowError) as error:  # the disk's, or a value that msgpack cannot say
            self._tell(error)
            self.counts["dropped_disk"].inc(len(batch))
            self._seal()
            return
        self._is_failing = False
        self.counts["spooled"].inc(len(batch))
        if self._writer.size_bytes >= self._bounds.segment_bytes:
            self._seal()

    def _open(self) -> bool:
        """A new file, if all that wait leave room for it."""
        waiting = waiting_bytes(self._folder)
        self._spool_bytes.set(waiting)
        if waiting + self._bounds.segment_bytes > self._bounds.spool_bytes:
            self._tell("the folder is full")
            return False
        self._writer, self._opened_s = SegmentWriter(self._folder, is_synced=False), monotonic()
        return True

    def _seal(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.seal()
            except OSError as error:
                self._tell(error)

    def _tell(self, why: object) -> None:
        if not self._is_failing:
            self._log.warning("captured frames are dropped", folder=str(self._folder), detail=str(why))
        self._is_failing = True


def waiting_bytes(folder: Path) -> int:
    """All that waits to be shipped, of living and dead processes alike."""
    total = 0
    for path in segments(folder):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # shipped meanwhile
            continue
    return total
