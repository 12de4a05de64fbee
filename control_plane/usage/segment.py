"""Spool segments on disk: framed, checksummed, append-only files, each locked by the process that writes or empties it.

A frame is length, CRC-32 and payload. A writer holds the file's flock for as long as it lives, so a segment that can be locked
belongs to nobody: closed, or left by a dead process. Synchronous; `spool` calls it from a thread. Knows no event and no Redis.
"""

import contextlib
import fcntl
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".spool"
TORN_SUFFIX = ".torn"

_FRAME = struct.Struct("<II")  # payload length, CRC-32 of the payload
_MAX_PAYLOAD_BYTES = 16 * 1024 * 1024  # a longer length is not a length


def frame(payload: bytes) -> bytes:
    """The payload as it stands in a segment."""
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


class SegmentWriter:
    """One segment being written. Every method may raise OSError; after one, seal it and begin another."""

    def __init__(self, folder: Path, *, is_synced: bool = True) -> None:
        """`is_synced=False`: what a power cut may take (not a killed process) is no loss, and the disk is left in peace."""
        self._fd, self.path = _create_locked(folder)
        self._good_bytes = 0
        self._is_synced = is_synced

    @property
    def size_bytes(self) -> int:
        """What is durable in it."""
        return self._good_bytes

    def append(self, frames: bytes) -> None:
        """Writes and fsyncs. On failure the half-written tail is cut off again as far as the disk allows."""
        try:
            _write_all(self._fd, frames)
            if self._is_synced:
                os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # what cannot be cut is a torn tail, which readers stop at
                os.ftruncate(self._fd, self._good_bytes)
            raise
        self._good_bytes += len(frames)

    def seal(self) -> None:
        """Gives the segment up: unlocks it for whoever replays it, or removes it if nothing durable is in it."""
        try:
            if self._good_bytes == 0:
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._fd)


class ClaimedSegment:
    """A segment nobody writes, locked by us. Close it when done, `discard` it when its events are safe elsewhere."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._is_torn = False

    def payloads(self) -> Iterator[bytes]:
        """Every whole payload, in order, up to the end or the first tear."""
        self._is_torn = False
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            while head := file.read(_FRAME.size):
                payload = _payload(head, file.read(_payload_length(head)))
                if payload is None:
                    self._is_torn = True
                    return
                yield payload

    @property
    def is_torn(self) -> bool:
        """Whether the last reading met a tear."""
        return self._is_torn

    def discard(self) -> None:
        """Removes the file; what could not be read after a tear was never acknowledged, but is kept under another name."""
        if self._is_torn:
            self.path.rename(self.path.with_suffix(TORN_SUFFIX))
        else:
            self.remove()

    def remove(self) -> None:
        """Removes the file, torn or not: for what may not be kept."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Unlocks it."""
        os.close(self._fd)


def segments(folder: Path) -> list[Path]:
    """Every segment in the folder, oldest first, whoever has it. Raises OSError."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def torn(folder: Path) -> list[Path]:
    """What was kept of torn segments. Raises OSError."""
    return sorted(folder.glob(f"*{TORN_SUFFIX}"))


def claim(path: Path) -> ClaimedSegment | None:
    """The segment if nobody writes or empties it, else None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if _lock(fd):
        return ClaimedSegment(path, fd)
    os.close(fd)
    return None


def count_frames(path: Path, *, start_byte: int = 0) -> tuple[int, int]:
    """(whole frames from `start_byte` on, byte after the last of them); reads only the lengths. Raises OSError."""
    count, position = 0, start_byte
    with path.open("rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        while position + _FRAME.size <= size_bytes:
            file.seek(position)
            length = _payload_length(file.read(_FRAME.size))
            after = position + _FRAME.size + length
            if length == 0 or after > size_bytes:
                break
            count, position = count + 1, after
    return count, position


def _create_locked(folder: Path) -> tuple[int, Path]:
    while True:
        path = folder / f"{time.time_ns():020}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            is_ours = _lock(fd)  # between creating and locking, a replayer may take the empty file away: then try again
            if is_ours:
                _sync_folder(folder)
                return fd, path
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(fd).st_nlink > 0  # locked, but already removed by whoever emptied it


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _payload_length(head: bytes) -> int:
    if len(head) < _FRAME.size:
        return 0
    length: int = _FRAME.unpack(head)[0]
    return min(length, _MAX_PAYLOAD_BYTES)


def _payload(head: bytes, payload: bytes) -> bytes | None:
    if len(head) < _FRAME.size:
        return None
    length, crc = _FRAME.unpack(head)
    is_whole = len(payload) == length > 0  # a disk may leave zeros behind a tear: eight of them would be an empty frame
    return payload if is_whole and zlib.crc32(payload) == crc else None
