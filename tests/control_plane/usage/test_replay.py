"""Spooled events find their way back into the stream: our own, and those of processes that were killed."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics
from control_plane.redis import create_redis
from control_plane.usage.replay import Replay
from control_plane.usage.segment import segments
from control_plane.usage.spool import Spool
from control_plane.usage.stream import STREAM
from tests.control_plane.eventually import eventually
from tests.control_plane.usage.conftest import Lines
from tests.control_plane.usage.making import counted
from tests.control_plane.usage.test_journal import streamed

# Another API process: spools three events while Redis is away, says so, and waits to be killed.
OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
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
def replay(redis: Redis, spool: Spool, metrics: Metrics, log: FilteringBoundLogger) -> Replay:
    """Its replay, with a Redis that is there."""
    return Replay(redis=redis, spool=spool, metrics=metrics, log=log)


async def test_what_waits_is_moved_in_order_and_its_files_are_gone(
    replay: Replay, spool: Spool, redis: Redis, metrics: Metrics
) -> None:
    events = [b"event %04d" % n for n in range(1200)]
    await asyncio.gather(*map(spool.append, events))
    assert await replay.step() == 1200
    assert await streamed(redis) == events
    assert segments(spool.folder) == []
    assert counted(metrics, "vla_spool_events") == 0


async def test_nothing_waits_and_nothing_happens(replay: Replay, redis: Redis) -> None:
    assert await replay.step() == 0
    assert not await redis.exists(STREAM)


async def test_what_waits_is_counted_while_redis_is_away(spool: Spool, metrics: Metrics, log: FilteringBoundLogger) -> None:
    redis = create_redis("redis://127.0.0.1:1/0", timeout_s=0.5)
    await spool.append(b"event")
    with pytest.raises(RedisError):
        await Replay(redis=redis, spool=spool, metrics=metrics, log=log).step()
    assert counted(metrics, "vla_spool_events") == 1
    assert len(segments(spool.folder)) == 1
    await redis.aclose()


async def test_a_refusal_half_way_keeps_the_file(replay: Replay, spool: Spool, redis: Redis) -> None:
    await redis.set(STREAM, "not a stream")
    await spool.append(b"event")
    with pytest.raises(RedisError):
        await replay.step()
    assert await spool.count_waiting() == 1
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
    assert segments(spool.folder) == []


async def test_two_processes_that_replay_one_folder_move_each_event_once(
    replay: Replay, spool: Spool, redis: Redis, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    events = []
    for n in range(20):
        events.append(b"event %02d" % n)
        await spool.append(events[-1])
        await spool.seal()
    other = Spool(spool.folder)
    moved = await asyncio.gather(replay.step(), Replay(redis=redis, spool=other, metrics=metrics, log=log).step())
    assert sum(moved) == 20
    assert sorted(await streamed(redis)) == events
    await other.close()


async def test_a_torn_tail_is_kept_aside_and_the_rest_is_moved(replay: Replay, spool: Spool, redis: Redis) -> None:
    await spool.append(b"whole")
    await spool.seal()
    (path,) = segments(spool.folder)
    with path.open("ab") as file:
        file.write(b"\x09\0\0\0torn")
    assert await replay.step() == 1
    assert await streamed(redis) == [b"whole"]
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
