"""The journal: no answer without a durable event, whether Redis is there, gone, full, or will not say."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError
from control_plane.metrics import Metrics
from control_plane.redis import create_redis
from control_plane.usage.event import encode
from control_plane.usage.journal import Journal, running_journal
from control_plane.usage.recent import Recent
from control_plane.usage.replay import Replay
from control_plane.usage.segment import segments
from control_plane.usage.spool import Spool, SpoolError
from control_plane.usage.stream import FIELD, STREAM
from tests.control_plane.eventually import eventually
from tests.control_plane.own_servers import own_valkey
from tests.control_plane.usage.conftest import Lines
from tests.control_plane.usage.making import count, counted, make_event, make_recorder, row_ids, running, until_recorded
from tests.control_plane.usage.proxy import proxy_to
from tests.control_plane.usage.test_segment import full_disk, read


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    """A spool of this test's own."""
    spool = Spool(tmp_path / "spool")
    await spool.start()
    yield spool
    await spool.close()


@pytest.fixture
def journal(redis: Redis, spool: Spool, metrics: Metrics, log: FilteringBoundLogger) -> Journal:
    """A journal with a Redis that is there."""
    return Journal(redis=redis, spool=spool, recent=Recent(), metrics=metrics, log=log)


async def streamed(redis: Redis) -> list[bytes]:
    """The payloads in the stream."""
    return [fields[FIELD] for _, fields in await redis.xrange(STREAM)]  # type: ignore  # noqa: PGH003 -- bytes in, bytes out


async def spooled(spool: Spool) -> list[bytes]:
    """The payloads in the spool. Seals it."""
    await spool.seal()
    return [payload for path in segments(spool.folder) for payload in read(path)]


def settle(pipeline: Pipeline) -> None:
    """What a limiter might send along."""
    pipeline.incr("settled")


async def test_an_event_is_in_the_stream_when_record_returns(
    journal: Journal, redis: Redis, spool: Spool, metrics: Metrics
) -> None:
    event = make_event(uuid4())
    await journal.record(event)
    assert await streamed(redis) == [encode(event)]
    assert await spooled(spool) == []
    assert counted(metrics, "vla_journal_writes_total", sink="stream") == 1


async def test_the_limiters_commands_go_along(journal: Journal, redis: Redis) -> None:
    await journal.record(make_event(uuid4()), together_with=settle)
    assert await redis.get("settled") == b"1"
    assert len(await streamed(redis)) == 1


async def test_an_event_is_recorded_even_if_the_limiters_commands_fail(
    journal: Journal, redis: Redis, spool: Spool, lines: Lines
) -> None:
    await redis.lpush("settled", "not a number")
    await journal.record(make_event(uuid4()), together_with=settle)
    assert len(await streamed(redis)) == 1
    assert await spooled(spool) == []
    assert len(lines.said("commands beside a usage event failed")) == 1


async def test_the_limiters_commands_stand_even_if_the_stream_refuses(journal: Journal, redis: Redis, spool: Spool) -> None:
    await redis.set(STREAM, "not a stream")
    event = make_event(uuid4())
    await journal.record(event, together_with=settle)
    assert await redis.get("settled") == b"1"
    assert await spooled(spool) == [encode(event)]


async def test_a_redis_without_memory_sends_events_to_the_spool_and_takes_them_later(
    journal: Journal, redis: Redis, spool: Spool, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    event = make_event(uuid4())
    before = (await redis.config_get("maxmemory"))["maxmemory"] or 0
    await redis.config_set("maxmemory", 1)
    try:
        await journal.record(event)
        assert await streamed(redis) == []
        assert (await spool.waiting())[1] == 1
    finally:
        await redis.config_set("maxmemory", before)
    assert await Replay(redis=redis, spool=spool, recent=Recent(), metrics=metrics, log=log).step() == 1
    assert await streamed(redis) == [encode(event)]


async def test_a_redis_killed_between_events_costs_none(
    spool: Spool,
    metrics: Metrics,
    log: FilteringBoundLogger,
    lines: Lines,
    database: asyncpg.Connection,
    database_url: str,
    customer_id: UUID,
) -> None:
    events = [make_event(customer_id) for _ in range(9)]
    async with own_valkey() as server:
        redis = create_redis(server.url, timeout_s=5.0)
        journal = Journal(redis=redis, spool=spool, recent=Recent(), metrics=metrics, log=log)
        for event in events[:3]:
            await journal.record(event)
        server.kill()
        for event in events[3:]:
            await journal.record(event)
        assert (await spool.waiting())[1] == 6
        assert len(lines.said("usage events go to the spool")) == 1
        await server.start()
        async with running(make_recorder(redis, database_url, metrics, log)):
            await until_recorded(redis)
            assert await Replay(redis=redis, spool=spool, recent=Recent(), metrics=metrics, log=log).step() == 6
            await until_recorded(redis)
        await redis.aclose()
    assert await row_ids(database) == sorted(event.request_id for event in events)


async def test_an_event_redis_took_without_saying_so_is_still_one_row(
    redis: Redis,
    clean_redis_url: str,
    spool: Spool,
    metrics: Metrics,
    log: FilteringBoundLogger,
    database: asyncpg.Connection,
    database_url: str,
    customer_id: UUID,
) -> None:
    event = make_event(customer_id)
    async with proxy_to(clean_redis_url) as proxy:
        half_deaf = create_redis(proxy.url, timeout_s=0.5)
        await half_deaf.eval("return 1", 0)  # opens the connection that events go out on
        proxy.drops_replies = True
        await Journal(redis=half_deaf, spool=spool, recent=Recent(), metrics=metrics, log=log).record(event)
        await half_deaf.aclose()
    assert await streamed(redis) == [encode(event)]
    assert (await spool.waiting())[1] == 1
    await Replay(redis=redis, spool=spool, recent=Recent(), metrics=metrics, log=log).step()
    assert await streamed(redis) == [encode(event)] * 2
    async with running(make_recorder(redis, database_url, metrics, log)):
        await until_recorded(redis)
    assert await row_ids(database) == [event.request_id]
    assert await count(database, "SELECT billable_requests FROM usage_months") == 1
    assert counted(metrics, "vla_recorder_rows_total", result="duplicate") == 1


async def test_no_answer_is_given_when_nothing_takes_the_event(
    spool: Spool, metrics: Metrics, log: FilteringBoundLogger, lines: Lines
) -> None:
    redis = create_redis("redis://127.0.0.1:1/0", timeout_s=0.5)
    journal = Journal(redis=redis, spool=spool, recent=Recent(), metrics=metrics, log=log)
    with full_disk(after_bytes=16), pytest.raises(ApiError) as refusal:
        await journal.record(make_event(uuid4()))
    assert (refusal.value.kind.code, refusal.value.kind.status) == ("journal_unavailable", 503)
    assert counted(metrics, "vla_journal_writes_total", sink="none") == 1
    assert len(lines.said("usage event could not be recorded")) == 1
    await journal.record(make_event(uuid4()))
    assert (await spool.waiting())[1] == 1
    await redis.aclose()


async def test_a_running_journal_replays_its_own_spool(
    redis: Redis, tmp_path: Path, metrics: Metrics, log: FilteringBoundLogger, lines: Lines
) -> None:
    await redis.set(STREAM, "not a stream")
    async with running_journal(redis=redis, spool_dir=tmp_path / "new" / "spool", metrics=metrics, log=log) as journal:
        await journal.record(make_event(uuid4()))
        assert counted(metrics, "vla_journal_writes_total", sink="spool") == 1
        await redis.delete(STREAM)

        async def is_streamed() -> bool:
            return len(await streamed(redis)) == 1

        await eventually(is_streamed)
        await journal.record(make_event(uuid4()))
    assert len(await streamed(redis)) == 2
    assert len(lines.said("usage events go to the stream again")) == 1


async def test_a_journal_without_a_spool_does_not_start(
    redis: Redis, tmp_path: Path, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolError):
        async with running_journal(redis=redis, spool_dir=tmp_path / "file", metrics=metrics, log=log):
            raise AssertionError("it started")
