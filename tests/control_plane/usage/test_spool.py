"""The spool: durable before it returns, few fsyncs for many events, honest about a disk that will not take more."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.usage.segment import claim, segments
from control_plane.usage.spool import Spool, SpoolError
from tests.control_plane.usage.test_segment import full_disk, read


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    spool = Spool(tmp_path / "spool")
    await spool.start()
    yield spool
    await spool.close()


async def test_an_event_is_in_the_file_when_append_returns(spool: Spool) -> None:
    await spool.append(b"event")
    (path,) = segments(spool.folder)
    assert path.read_bytes().endswith(b"event")
    assert claim(path) is None


async def test_many_events_at_once_share_a_few_fsyncs(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, fsyncs = os.fsync, 0

    def counting(fd: int) -> None:
        nonlocal fsyncs
        fsyncs += 1
        fsync(fd)

    monkeypatch.setattr(os, "fsync", counting)
    await asyncio.gather(*(spool.append(b"event %d" % n) for n in range(200)))
    assert fsyncs < 10
    assert (await spool.waiting())[1] == 200


async def test_a_sealed_segment_can_be_read_and_the_next_event_begins_another(spool: Spool) -> None:
    await spool.append(b"one")
    await spool.seal()
    await spool.append(b"two")
    sealed, writing = segments(spool.folder)
    assert read(sealed) == [b"one"]
    assert claim(writing) is None
    assert (await spool.waiting())[1] == 2


async def test_a_segment_ends_when_it_is_large(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=100)
    for n in range(10):
        await spool.append(b"%040d" % n)
    await spool.close()
    assert len(segments(tmp_path)) == 4
    assert [payload for path in segments(tmp_path) for payload in read(path)] == [b"%040d" % n for n in range(10)]


async def test_a_full_disk_is_told_to_every_waiter_and_passes(spool: Spool) -> None:
    await spool.append(b"before")
    with full_disk(after_bytes=100):
        answers = await asyncio.gather(*(spool.append(b"x" * 50) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(answer, SpoolError) for answer in answers)
    await spool.append(b"after")
    await spool.seal()
    assert [payload for path in segments(spool.folder) for payload in read(path)] == [b"before", b"after"]


async def test_a_folder_that_cannot_be_made_is_found_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "spool")
    with pytest.raises(SpoolError, match="file/spool: Not a directory"):
        await spool.start()
    with pytest.raises(SpoolError):
        await spool.append(b"event")
    await spool.close()


async def test_a_waiter_that_goes_away_takes_nobody_with_it(spool: Spool) -> None:
    appending = [asyncio.create_task(spool.append(b"event %d" % n)) for n in range(3)]
    await asyncio.sleep(0)
    appending[1].cancel()
    first, second, third = await asyncio.gather(*appending, return_exceptions=True)
    assert first is None
    assert isinstance(second, asyncio.CancelledError)
    assert third is None


async def test_a_closed_spool_refuses(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.close()
    with pytest.raises(SpoolError, match="closed"):
        await spool.append(b"event")
