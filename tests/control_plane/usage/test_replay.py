"""Spooled events find their way back into the stream: our own, and those of processes that were killed."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics
from control_plane.redis import create_redis
from control_plane.usage.event import encode
from control_plane.usage.journal import Journal
from control_plane.usage.recent import Recent
from control_plane.usage.replay import Replay
from control_plane.usage.segment import segments
from control_plane.usage.spool import Spool
from control_plane.usage.stream import STREAM
from tests.control_plane.eventually import eventually
from tests.control_plane.own_servers import OwnServer, own_valkey
from tests.control_plane.usage.conftest import Lines
from tests.control_plane.usage.making import counted, make_event
from tests.control_plane.usage.test_journal import streamed

# Another API process: spools three events while Redis is away, says so, and waits to be killed.
OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from uuid import uuid4
from control_plane.usage.spool import Spool

async def main() -> None:
    spool = Spool(Path(sys.argv[1]))
    for event in (b"one", b"two", b"three"):
        await spool.append(event)
    print("spooled", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    """A spool of this test's own."""
    spool = Spool(tmp_path / "spool")
    await spool.start()
    yield spool
    await spool.close()


@pytest.fixture
def recent() -> Recent:
    """What the journal noted."""
    return Recent()


@pytest.fixture
async def replay(
    redis: Redis, spool: Spool, recent: Recent, metrics: Metrics, log: FilteringBoundLogger
) -> AsyncIterator[Replay]:
    """Its replay, with a Redis that is there."""
    replay = Replay(redis=redis, spool=spool, recent=recent, metrics=metrics, log=log)
    yield replay
    await replay.stop()


@pytest.fixture
def written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Redis acknowledged is taken to be in its file at the next look."""
    monkeypatch.setattr("control_plane.usage.replay.WRITTEN_WITHIN_S", 0.0)


async def test_what_waits_is_moved_in_order_and_its_files_go_when_redis_has_written_it(
    replay: Replay, spool: Spool, redis: Redis, metrics: Metrics, written_at_once: None
) -> None:
    events = [b"event %04d" % n for n in range(1200)]
    await asyncio.gather(*map(spool.append, events))
    assert await replay.step() == 1200
    assert await streamed(redis) == events
    assert counted(metrics, "vla_spool_events") == 1200
    assert await replay.step() == 0
    assert await streamed(redis) == events
    assert segments(spool.folder) == []
    assert counted(metrics, "vla_spool_events") == 0


async def test_requests_get_their_turn_between_the_events_that_are_moved(replay: Replay, spool: Spool, redis: Redis) -> None:
    await asyncio.gather(*map(spool.append, (b"event %04d" % n for n in range(1000))))
    step, seen = asyncio.create_task(replay.step()), [0]
    while not step.done():
        seen.append(await redis.eval("return redis.call('XLEN', KEYS[1])", 1, STREAM))
    assert await step == 1000
    assert max(later - earlier for earlier, later in pairwise(seen)) <= 100


async def test_nothing_waits_and_nothing_happens(replay: Replay, redis: Redis) -> None:
    assert await replay.step() == 0
    assert not await redis.exists(STREAM)


async def test_without_files_a_step_looks_into_the_folder_once(
    replay: Replay, recent: Recent, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replay.step()
    recent.note(b"acknowledged")
    looks: list[object] = []
    monkeypatch.setattr(spool, "in_thread", partial(_noted, looks, spool.in_thread))
    assert await replay.step() == 0
    assert len(looks) == 1


async def _noted(looks: list[object], in_thread: Callable[..., Awaitable[Any]], work: Callable[[], Any]) -> Any:
    looks.append(work)
    return await in_thread(work)


async def test_what_waits_is_counted_while_redis_is_away(spool: Spool, metrics: Metrics, log: FilteringBoundLogger) -> None:
    await spool.append(b"event")
    redis = create_redis("redis://127.0.0.1:1/0", timeout_s=0.5)
    with pytest.raises(RedisError):
        await Replay(redis=redis, spool=spool, recent=Recent(), metrics=metrics, log=log).step()
    assert counted(metrics, "vla_spool_events") == 1
    assert len(segments(spool.folder)) == 1
    await redis.aclose()


async def test_a_refusal_half_way_keeps_the_file(replay: Replay, spool: Spool, redis: Redis) -> None:
    await redis.set(STREAM, "not a stream")
    await spool.append(b"event")
    with pytest.raises(RedisError):
        await replay.step()
    assert (await spool.waiting())[1] == 1
    await redis.delete(STREAM)
    assert await replay.step() == 1
    assert await streamed(redis) == [b"event"]


async def test_events_of_a_killed_process_are_adopted_and_those_of_a_living_one_are_not(
    replay: Replay, spool: Spool, redis: Redis, metrics: Metrics
) -> None:
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", OTHER_PROCESS, str(spool.folder), stdout=PIPE)
    try:
        assert other.stdout is not None
        assert await other.stdout.readline() == b"spooled\n"
        assert await replay.step() == 0
        assert counted(metrics, "vla_spool_events") == 3
    finally:
        other.kill()
        await other.wait()
    assert await replay.step() == 3
    assert await streamed(redis) == [b"one", b"two", b"three"]


async def test_two_processes_that_replay_one_folder_move_each_event_once(
    replay: Replay, spool: Spool, redis: Redis, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    events = []
    for n in range(20):
        events.append(b"event %02d" % n)
        await spool.append(events[-1])
        await spool.seal()
    other = Spool(spool.folder)
    others = Replay(redis=redis, spool=other, recent=Recent(), metrics=metrics, log=log)
    moved = await asyncio.gather(replay.step(), others.step())
    assert sum(moved) == 20
    assert sorted(await streamed(redis)) == events
    await others.stop()
    await other.close()


async def test_a_torn_tail_is_kept_aside_and_the_rest_is_moved(
    replay: Replay, spool: Spool, redis: Redis, written_at_once: None
) -> None:
    await spool.append(b"whole")
    await spool.seal()
    (path,) = segments(spool.folder)
    with path.open("ab") as file:
        file.write(b"\x09\0\0\0torn")
    assert await replay.step() == 1
    assert await streamed(redis) == [b"whole"]
    assert await replay.step() == 0
    assert [kept.suffix for kept in spool.folder.iterdir()] == [".torn"]
    assert await replay.step() == 0


async def test_it_watches_in_the_background_until_it_is_stopped(replay: Replay, spool: Spool, redis: Redis, lines: Lines) -> None:
    await spool.append(b"event")
    await replay.start()

    async def is_moved() -> bool:
        return await redis.xlen(STREAM) == 1

    await eventually(is_moved)
    await replay.stop()
    assert len(lines.said("spooled usage events moved to the stream")) == 1


@dataclass
class Forgetful:
    """A Redis of this test's own that can be killed as if it had not written its last commands: an fsync was under way."""

    server: OwnServer
    file: Path
    written_bytes: int = 0

    async def is_all_written(self) -> None:
        """From here on it only acknowledges. What it has acknowledged so far may be put off on a busy disk: waits for that."""
        async with create_redis(self.server.url, timeout_s=5.0) as redis:
            await eventually(lambda: _is_buffer_empty(redis))
        self.written_bytes = self.file.stat().st_size

    async def die_and_come_back(self) -> None:
        """Killed, and started from what it had written."""
        self.server.kill()
        os.truncate(self.file, self.written_bytes)
        await self.server.start()


async def _is_buffer_empty(redis: Redis) -> bool:
    return int((await redis.info("persistence"))["aof_buffer_length"]) == 0


def only_file(folder: Path, pattern: str) -> Path:
    """The one that is there."""
    (file,) = folder.glob(pattern)
    return file


@pytest.fixture
async def forgetful() -> AsyncIterator[Forgetful]:
    """A running one."""
    async with own_valkey() as server:
        async with create_redis(server.url, timeout_s=5.0) as redis:
            folder = str((await redis.config_get("dir"))["dir"])
        yield Forgetful(server, only_file(Path(folder) / "appendonlydir", "*.incr.aof"))


async def test_what_redis_acknowledged_and_forgot_is_added_again(
    forgetful: Forgetful, spool: Spool, metrics: Metrics, log: FilteringBoundLogger, lines: Lines
) -> None:
    events, recent = [make_event(uuid4()) for _ in range(6)], Recent()
    async with create_redis(forgetful.server.url, timeout_s=5.0) as redis:
        journal = Journal(redis=redis, spool=spool, recent=recent, metrics=metrics, log=log)
        replay = Replay(redis=redis, spool=spool, recent=recent, metrics=metrics, log=log)
        for event in events[:3]:
            await journal.record(event)
        await replay.step()
        await forgetful.is_all_written()
        for event in events[3:]:
            await journal.record(event)
        await forgetful.die_and_come_back()
        assert set(await streamed(redis)) == {encode(event) for event in events[:3]}
        await replay.step()
        assert set(await streamed(redis)) == {encode(event) for event in events}
        length = await redis.xlen(STREAM)
        await replay.step()
        assert await redis.xlen(STREAM) == length
    assert [line["events"] for line in lines.said("another Redis answers: recent usage events added again")] == [6]


async def test_a_moved_segment_stays_until_redis_has_written_it(
    forgetful: Forgetful, spool: Spool, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    async with create_redis(forgetful.server.url, timeout_s=5.0) as redis:
        replay = Replay(redis=redis, spool=spool, recent=Recent(), metrics=metrics, log=log)
        await forgetful.is_all_written()
        await spool.append(b"event")
        assert await replay.step() == 1
        await forgetful.die_and_come_back()
        assert await streamed(redis) == []
        assert await replay.step() == 1
        assert await streamed(redis) == [b"event"]
        await replay.stop()


async def test_events_that_redis_has_written_are_let_go(
    replay: Replay, recent: Recent, redis: Redis, written_at_once: None
) -> None:
    await replay.step()
    recent.note(b"event")
    await replay.step()
    assert await streamed(redis) == [b"event"]  # the first answer: another process, for all that is known
    await replay.step()
    assert len(recent) == 0
    assert await streamed(redis) == [b"event"]
