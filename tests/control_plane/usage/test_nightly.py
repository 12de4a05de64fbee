"""Every night: what differs is told, repaired from the rows and counted; traffic goes on meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from control_plane.db import connect, create_engine
from control_plane.metrics import Metrics
from control_plane.usage.event import UsageStatus
from control_plane.usage.nightly import Sources, reconcile_recent
from control_plane.usage.partitions import partition_name
from tests.control_plane.eventually import eventually
from tests.control_plane.usage.archive.conftest import take
from tests.control_plane.usage.conftest import Lines
from tests.control_plane.usage.making import count, counted, make_event

TODAY = datetime.now(UTC).date()
MONTH = TODAY.replace(day=1)


@pytest.fixture
async def stores(database_url: str, redis: Redis) -> AsyncIterator[Sources]:
    """As the worker's."""
    engine = create_engine(database_url, timeout_s=30.0)
    yield Sources(engine=engine, connect=partial(connect, database_url, timeout_s=30.0, name="test"), redis=redis)
    await engine.dispose()


@pytest.fixture
async def used(database: asyncpg.Connection, redis: Redis, customer_id: UUID) -> int:
    """24 requests of today, as many counted in Redis."""
    await take(database, [make_event(customer_id, status=status) for status in [*UsageStatus] * 4])
    await set_counter(redis, customer_id, 24)
    return 24


async def set_counter(redis: Redis, customer_id: UUID, used: int, *, month: date = MONTH) -> None:
    """As admit.lua leaves it."""
    key = f"vla:limits:{{{customer_id.hex}}}"
    await redis.hset(key, mapping={"month": month.year * 12 + month.month - 1, "month_used": used})


async def counter(redis: Redis, customer_id: UUID) -> int:
    """The count of the month."""
    return int(await redis.hget(f"vla:limits:{{{customer_id.hex}}}", "month_used") or 0)


async def test_what_agrees_is_left_alone(
    stores: Sources, database: asyncpg.Connection, used: int, metrics: Metrics, log: FilteringBoundLogger, lines: Lines
) -> None:
    await reconcile_recent(stores, metrics, log)
    assert counted(metrics, "vla_reconcile_difference") == 0
    assert counted(metrics, "vla_reconcile_timestamp_seconds") > 0
    assert await count(database, "SELECT count(*) FROM usage_corrections") == 0
    assert lines.entries == []


async def test_roll_ups_are_made_again_from_the_rows_with_a_record(
    stores: Sources,
    database: asyncpg.Connection,
    customer_id: UUID,
    used: int,
    metrics: Metrics,
    log: FilteringBoundLogger,
    lines: Lines,
) -> None:
    right = [await database.fetch(f"SELECT * FROM {table}") for table in ("usage_days", "usage_months")]  # noqa: S608
    await database.execute("UPDATE usage_days SET billable_requests = billable_requests + 3, compute_us = 0")
    await database.execute("DELETE FROM usage_months")
    await reconcile_recent(stores, metrics, log)
    assert right == [await database.fetch(f"SELECT * FROM {table}") for table in ("usage_days", "usage_months")]  # noqa: S608
    assert counted(metrics, "vla_reconcile_difference") == 2
    assert counted(metrics, "vla_reconcile_repairs_total", what="usage_days") == 1
    assert [line["is_repaired"] for line in lines.said("roll-up differs from the log")] == [True, True]
    day, month = await database.fetch("SELECT * FROM usage_corrections ORDER BY id")
    assert (day["what"], day["customer_id"], day["starts_on"], day["corrected_by"]) == (
        "usage_days",
        customer_id,
        TODAY,
        "worker",
    )
    assert json.loads(day["before"])["billable_requests"] == json.loads(day["after"])["billable_requests"] + 3
    assert month["before"] == "null"
    await reconcile_recent(stores, metrics, log)
    assert counted(metrics, "vla_reconcile_difference") == 0


async def test_a_roll_up_without_any_row_becomes_nothing(
    stores: Sources, database: asyncpg.Connection, used: int, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    await database.execute("DELETE FROM inference_logs")
    await reconcile_recent(stores, metrics, log)
    assert await count(database, "SELECT sum(requests)::integer FROM usage_days") == 0
    await reconcile_recent(stores, metrics, log)
    assert counted(metrics, "vla_reconcile_repairs_total", what="usage_days") == 1
    assert counted(metrics, "vla_reconcile_repairs_total", what="month_counter") == 1  # all of it is surplus, at the second look
    await reconcile_recent(stores, metrics, log)
    assert counted(metrics, "vla_reconcile_difference") == 0


async def test_rows_that_cannot_be_seen_are_never_taken_for_none(
    stores: Sources, database: asyncpg.Connection, used: int, metrics: Metrics, log: FilteringBoundLogger, lines: Lines
) -> None:
    await database.execute(f"ALTER TABLE inference_logs DETACH PARTITION {partition_name(TODAY)}")
    await reconcile_recent(stores, metrics, log)
    assert (
        await count(database, "SELECT requests FROM usage_days")
        == await count(database, "SELECT requests FROM usage_months")
        == used
    )
    assert [line["is_repaired"] for line in lines.said("roll-up differs from the log")] == [False, False]


async def test_a_recorder_in_the_middle_of_its_batch_is_neither_lost_nor_doubled(
    stores: Sources,
    database: asyncpg.Connection,
    database_url: str,
    customer_id: UUID,
    used: int,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> None:
    await database.execute("UPDATE usage_days SET requests = 1")
    recorder = await asyncpg.connect(database_url)
    transaction = recorder.transaction()
    await transaction.start()
    await take(recorder, [make_event(customer_id) for _ in range(5)])
    repairing = asyncio.create_task(reconcile_recent(stores, metrics, log))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    await eventually(partial(_is_any, database, waiting))
    await transaction.commit()
    await repairing
    await recorder.close()
    for table in ("usage_days", "usage_months"):
        assert await count(database, f"SELECT requests FROM {table}") == used + 5  # noqa: S608


async def _is_any(database: asyncpg.Connection, query: str) -> bool:
    return await count(database, query) > 0


async def test_a_count_that_redis_has_lost_is_raised_to_what_is_proven(
    stores: Sources,
    database: asyncpg.Connection,
    redis: Redis,
    customer_id: UUID,
    used: int,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> None:
    await redis.flushall()
    await reconcile_recent(stores, metrics, log)
    at_least = used - 8  # eight failed by our fault, and may have been given back
    assert await counter(redis, customer_id) == at_least
    assert await redis.pttl(f"vla:limits:{{{customer_id.hex}}}") > 0
    assert counted(metrics, "vla_reconcile_repairs_total", what="month_counter") == 1
    (record,) = await database.fetch("SELECT * FROM usage_corrections")
    assert (record["what"], json.loads(record["after"])) == ("month_counter", {"month_used": at_least})


@pytest.mark.parametrize("given_back", [0, 5, 8])
async def test_between_the_bounds_nothing_is_set(
    stores: Sources,
    redis: Redis,
    customer_id: UUID,
    used: int,
    metrics: Metrics,
    log: FilteringBoundLogger,
    given_back: int,
) -> None:
    await set_counter(redis, customer_id, used - given_back)
    await reconcile_recent(stores, metrics, log)
    assert await counter(redis, customer_id) == used - given_back
    assert counted(metrics, "vla_reconcile_difference") == 0


async def test_a_surplus_is_taken_off_at_the_second_look_and_what_is_under_way_is_not(
    stores: Sources, redis: Redis, customer_id: UUID, used: int, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    await set_counter(redis, customer_id, used + 10)
    await redis.zadd(f"vla:leases:{{{customer_id.hex}}}", {f"under way {n}": 9e15 for n in range(4)})
    await reconcile_recent(stores, metrics, log)
    assert await counter(redis, customer_id) == used + 10
    await redis.hincrby(f"vla:limits:{{{customer_id.hex}}}", "month_used", 2)  # two more are admitted, and are under way
    await redis.zadd(f"vla:leases:{{{customer_id.hex}}}", {"another": 9e15, "and another": 9e15})
    await reconcile_recent(stores, metrics, log)
    assert await counter(redis, customer_id) == used + 6
    await reconcile_recent(stores, metrics, log)
    assert counted(metrics, "vla_reconcile_difference") == 0


async def test_events_that_still_wait_keep_counters_from_being_judged(
    stores: Sources, redis: Redis, customer_id: UUID, used: int, metrics: Metrics, log: FilteringBoundLogger, lines: Lines
) -> None:
    await set_counter(redis, customer_id, used + 10)
    await redis.xadd("vla:usage", {"event": b"waits"})
    await reconcile_recent(stores, metrics, log, patience_s=0.1)
    assert len(lines.said("counters not compared")) == 1
    assert await redis.exists(f"vla:surplus:{{{customer_id.hex}}}") == 0


async def test_a_counter_that_moved_on_to_the_next_month_is_left_alone(
    stores: Sources, redis: Redis, customer_id: UUID, used: int, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    await set_counter(redis, customer_id, 3, month=MONTH + timedelta(days=31))
    await reconcile_recent(stores, metrics, log)
    assert await counter(redis, customer_id) == 3
