"""Spool segments on a real file system: locks, tears, zeros, full disks."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control_plane.usage.segment import ClaimedSegment, SegmentWriter, claim, count_frames, frame, segments

PAYLOADS = [b"first", b"second" * 100, b"\x00" * 40]


def written(folder: Path, payloads: list[bytes]) -> Path:
    """A sealed segment."""
    writer = SegmentWriter(folder)
    for payload in payloads:
        writer.append(frame(payload))
    writer.seal()
    return writer.path


def claimed(path: Path) -> ClaimedSegment:
    """The segment, which must be free."""
    segment = claim(path)
    assert segment is not None
    return segment


def read(path: Path) -> list[bytes]:
    """What can be read from it."""
    segment = claimed(path)
    try:
        return list(segment.payloads())
    finally:
        segment.close()


@contextmanager
def full_disk(*, after_bytes: int) -> Iterator[None]:
    """No file can grow beyond that, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    assert read(path) == PAYLOADS
    assert count_frames(path) == (3, path.stat().st_size)


def test_counting_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    assert count_frames(path, start_byte=len(frame(PAYLOADS[0]))) == (2, path.stat().st_size)


def test_a_segment_that_somebody_writes_cannot_be_claimed(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(frame(b"mine"))
    assert claim(writer.path) is None
    writer.seal()
    assert read(writer.path) == [b"mine"]


def test_a_segment_that_somebody_empties_cannot_be_claimed(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    segment = claimed(path)
    assert claim(path) is None
    segment.discard()
    segment.close()
    assert claim(path) is None
    assert segments(tmp_path) == []


def test_a_claimed_segment_stays_claimed_while_it_is_half_read(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    segment = claimed(path)
    next(segment.payloads())
    assert claim(path) is None
    segment.close()


def test_a_segment_nothing_was_written_to_leaves_no_file(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).seal()
    assert list(tmp_path.iterdir()) == []


def test_a_tail_torn_at_any_byte_costs_only_what_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "torn.spool"
    frames = [frame(payload) for payload in PAYLOADS]
    whole = b"".join(frames)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = sum(len(b"".join(frames[: n + 1])) <= cut for n in range(len(frames)))
        assert read(path) == PAYLOADS[:kept]
        assert count_frames(path)[0] == kept


def test_a_bit_flipped_in_any_byte_never_gives_another_payload(tmp_path: Path) -> None:
    path = tmp_path / "flipped.spool"
    whole = b"".join(map(frame, PAYLOADS))
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
        got = read(path)
        assert got == PAYLOADS[: len(got)]
        assert len(got) < len(PAYLOADS)


def test_zeros_behind_a_tear_are_not_events(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    path.write_bytes(path.read_bytes() + b"\0" * 4096)
    assert read(path) == PAYLOADS
    assert count_frames(path)[0] == 3


def test_what_could_not_be_read_is_put_aside_and_not_removed(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    with path.open("ab") as file:
        file.write(b"\x05\0\0\0half")
    segment = claimed(path)
    assert list(segment.payloads()) == PAYLOADS
    segment.discard()
    segment.close()
    assert segments(tmp_path) == []
    assert [kept.suffix for kept in tmp_path.iterdir()] == [".torn"]


def test_a_full_disk_leaves_no_half_frame_behind(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(frame(b"before"))
    with full_disk(after_bytes=writer.size_bytes + 10), pytest.raises(OSError, match="File too large"):
        writer.append(frame(b"does not fit" * 10))
    assert writer.path.stat().st_size == writer.size_bytes
    writer.seal()
    assert read(writer.path) == [b"before"]


def test_segments_are_private_to_their_owner(tmp_path: Path) -> None:
    assert written(tmp_path, PAYLOADS).stat().st_mode & 0o777 == 0o600
