"""What is billable this month, while events are in flight, in the stream, in both stream and table, or corrected."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis

from control_plane.db import DatabaseAwayError, create_engine
from control_plane.usage.event import TEST_SCHEMA, UsageStatus, encode
from control_plane.usage.intake import Intake
from control_plane.usage.request_id import mint, mint_at, public_form
from control_plane.usage.spent import BillableCount
from tests.control_plane.usage.making import add_events, add_payloads, make_customer, make_event

NOW = datetime.now(UTC)
MONTH = NOW.year * 12 + NOW.month - 1
LAST_MONTH = NOW.replace(day=1) - timedelta(days=1)


@pytest.fixture
async def counting(database_url: str, redis: Redis) -> AsyncIterator[BillableCount]:
    """Over stores of this test's own."""
    engine = create_engine(database_url, timeout_s=10)
    yield BillableCount(engine=engine, redis=redis)
    await engine.dispose()


async def test_only_answers_of_this_customer_and_month_count(
    counting: BillableCount, redis: Redis, database: asyncpg.Connection, customer_id: UUID
) -> None:
    other = await make_customer(database)
    await add_events(
        redis,
        [
            *(make_event(customer_id) for _ in range(3)),
            *(make_event(customer_id, status=status) for status in UsageStatus if status is not UsageStatus.SUCCESS),
            make_event(customer_id, is_test=True, schema=TEST_SCHEMA),
            make_event(customer_id, at=LAST_MONTH),
            make_event(other),
        ],
    )
    await add_payloads(redis, [b"no event", b""])
    assert await counting(customer_id, MONTH, []) == 3
    assert await counting(customer_id, MONTH - 1, []) == 1


async def test_an_event_in_both_stream_and_table_counts_once(
    counting: BillableCount, redis: Redis, database: asyncpg.Connection, customer_id: UUID
) -> None:
    events = [make_event(customer_id) for _ in range(5)]
    await add_events(redis, events[2:])
    await add_events(redis, events[2:])  # brought back after a Redis was killed
    await Intake().take(database, [encode(event) for event in events[:4]], now=datetime.now(UTC))
    assert await counting(customer_id, MONTH, []) == 5


async def test_what_is_in_flight_counts_until_its_end_is_known(
    counting: BillableCount, redis: Redis, database: asyncpg.Connection, customer_id: UUID
) -> None:
    refused, recorded, invalid = [
        make_event(customer_id, status=status) for status in (UsageStatus.REFUSED, UsageStatus.SUCCESS, UsageStatus.INVALID)
    ]
    await add_events(redis, [refused])
    await Intake().take(database, [encode(recorded), encode(invalid)], now=datetime.now(UTC))
    ended = [public_form(event.request_id).encode() for event in (refused, recorded, invalid)]
    flying = [public_form(mint()).encode() for _ in range(2)]
    begun_last_month = public_form(mint_at(LAST_MONTH)).encode()
    assert await counting(customer_id, MONTH, [*ended, *flying, begun_last_month, b"no id of ours"]) == 1 + 2


async def test_corrections_of_the_month_count(
    counting: BillableCount, redis: Redis, database: asyncpg.Connection, customer_id: UUID
) -> None:
    await add_events(redis, [make_event(customer_id) for _ in range(3)])
    for day, quantity in ((NOW.date(), 10), (NOW.date(), -4), (LAST_MONTH.date(), 100)):
        await database.execute(
            "INSERT INTO usage_adjustments (id, customer_id, day, quantity, reason, created_by)"
            " VALUES (uuidv7(), $1, $2, $3, 'test', 'test')",
            customer_id,
            day,
            quantity,
        )
    assert await counting(customer_id, MONTH, []) == 3 + 10 - 4


async def test_a_long_stream_is_read_to_its_end(counting: BillableCount, redis: Redis, customer_id: UUID) -> None:
    await add_events(redis, [make_event(customer_id) for _ in range(2_001)])
    assert await counting(customer_id, MONTH, []) == 2_001


async def test_it_is_never_guessed(redis: Redis, customer_id: UUID) -> None:
    away = create_engine("postgresql://nobody:x@127.0.0.1:1/none", timeout_s=0.5)
    with pytest.raises(DatabaseAwayError):
        await BillableCount(engine=away, redis=redis)(customer_id, MONTH, [])
    await away.dispose()
