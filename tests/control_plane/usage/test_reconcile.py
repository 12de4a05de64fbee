"""The roll-ups say what the rows say; when they do not, it is found."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from structlog.typing import FilteringBoundLogger

from control_plane.db import create_engine
from control_plane.metrics import Metrics
from control_plane.usage.event import UsageStatus
from control_plane.usage.reconcile import reconcile
from tests.control_plane.usage.making import add_events, make_event, make_recorder, running, until_recorded


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """As the worker's."""
    engine = create_engine(database_url, timeout_s=30.0)
    yield engine
    await engine.dispose()


@pytest.fixture
async def today(redis: Redis, database_url: str, customer_id: UUID, metrics: Metrics, log: FilteringBoundLogger) -> date:
    """A day of this month, with 36 events in this month and one in the last."""
    now = datetime.now(UTC)
    events = [make_event(customer_id, status=status) for status in [*UsageStatus] * 6]
    await add_events(redis, [*events, make_event(customer_id, at=now.replace(day=1) - timedelta(days=1))])
    async with running(make_recorder(redis, database_url, metrics, log)):
        await until_recorded(redis)
    return now.date()


async def test_what_was_recorded_agrees(engine: AsyncEngine, today: date) -> None:
    assert await reconcile(engine, today) == ()
    assert await reconcile(engine, today.replace(day=1) - timedelta(days=1)) == ()


async def test_an_empty_month_agrees(engine: AsyncEngine) -> None:
    assert await reconcile(engine, date(2025, 12, 31)) == ()


@pytest.mark.parametrize("table", ["usage_days", "usage_months"])
async def test_a_planted_difference_is_found_where_it_is(
    engine: AsyncEngine, database: asyncpg.Connection, today: date, customer_id: UUID, table: str
) -> None:
    period = table.removeprefix("usage_").removesuffix("s")
    starts_on = today if period == "day" else today.replace(day=1)
    await database.execute(
        f"UPDATE {table} SET requests = requests + 2, billable_requests = billable_requests - 1 WHERE {period} = $1",  # noqa: S608
        starts_on,
    )
    (difference,) = await reconcile(engine, today)
    assert (difference.roll_up, difference.customer_id, difference.starts_on) == (table, customer_id, starts_on)
    assert difference.counts == {"requests": (36, 38), "billable_requests": (6, 5)}


async def test_a_lost_row_and_a_lost_roll_up_are_found(engine: AsyncEngine, database: asyncpg.Connection, today: date) -> None:
    await database.execute("DELETE FROM inference_logs WHERE status = 'success'")
    assert {difference.roll_up for difference in await reconcile(engine, today)} == {"usage_days", "usage_months"}
    await database.execute("DELETE FROM inference_logs")
    await database.execute("DELETE FROM usage_months")
    (difference,) = await reconcile(engine, today)
    assert difference.roll_up == "usage_days"
    assert difference.counts["requests"] == (0, 36)


@pytest.mark.parametrize("time_zone", ["America/Los_Angeles", "Pacific/Kiritimati"])
async def test_days_are_utc_in_any_session(database_url: str, today: date, time_zone: str) -> None:
    url = database_url.replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url, connect_args={"server_settings": {"timezone": time_zone}})
    assert await reconcile(engine, today) == ()
    assert await reconcile(engine, today.replace(day=1) - timedelta(days=1)) == ()
    await engine.dispose()
