"""`customers` as operators read it, and the statement of the design as written, on both sides of the turn of a month."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from billing.tiers import tier_terms
from control_plane.metrics import Metrics
from control_plane.usage.event import UsageEvent, UsageStatus
from tests.control_plane.usage.making import add_events, make_customer, make_event, make_recorder, running, until_recorded

# The operator's statement in docs/USAGE.md, as written.
STATEMENT = """
SELECT company_name, tier, monthly_usage as requests, monthly_quota as limit,
       ROUND(monthly_usage::numeric / monthly_quota * 100, 1) as usage_pct
FROM customers WHERE is_active = true ORDER BY monthly_usage DESC;
"""

TIME_ZONES = ["UTC", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kathmandu"]


@pytest.fixture
def turn() -> datetime:
    """The instant at which this month began."""
    return datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


async def record(redis: Redis, database_url: str, metrics: Metrics, log: FilteringBoundLogger, events: list[UsageEvent]) -> None:
    """Takes the events all the way into the log."""
    await add_events(redis, events)
    async with running(make_recorder(redis, database_url, metrics, log)):
        await until_recorded(redis)


async def test_the_statement_of_the_design_runs_as_written(
    redis: Redis, database: asyncpg.Connection, database_url: str, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    acme = await make_customer(database, tier="enterprise", company_name="Acme Robotics")
    await make_customer(database, tier="free", company_name="Idle Arms")
    gone = await make_customer(database, tier="pro", company_name="Gone Grippers")
    await database.execute("UPDATE customer_accounts SET is_active = false WHERE id = $1", gone)
    other = [UsageStatus.REFUSED, UsageStatus.INVALID, UsageStatus.TIMEOUT, UsageStatus.ERROR]
    events = [make_event(acme) for _ in range(1500)] + [make_event(acme, status=status) for status in other]
    await record(redis, database_url, metrics, log, events)
    rows = [tuple(row) for row in await database.fetch(STATEMENT)]
    assert [(*row[:4], str(row[4])) for row in rows] == [
        ("Acme Robotics", "enterprise", 1500, 1_000_000, "0.2"),
        ("Idle Arms", "free", 0, 10_000, "0.0"),
    ]


@pytest.mark.parametrize("time_zone", TIME_ZONES)
async def test_usage_begins_at_zero_one_instant_after_the_month_turns(
    redis: Redis,
    database: asyncpg.Connection,
    database_url: str,
    metrics: Metrics,
    log: FilteringBoundLogger,
    turn: datetime,
    time_zone: str,
) -> None:
    customer_id = await make_customer(database)
    before = [make_event(customer_id, at=turn - timedelta(milliseconds=n)) for n in (1, 2, 3)]
    await record(redis, database_url, metrics, log, before)
    await database.execute(f"SET timezone = '{time_zone}'")
    last, first, later = turn - timedelta(microseconds=1), turn, turn + timedelta(seconds=1)
    assert await used_at(database, last) == [(customer_id, 3)]
    assert await used_at(database, first) == [(customer_id, 0)]
    assert await used_at(database, later) == [(customer_id, 0)]
    await record(redis, database_url, metrics, log, [make_event(customer_id, at=turn)])
    assert await used_at(database, last) == [(customer_id, 3)]
    assert await used_at(database, first) == [(customer_id, 1)]
    assert await used_at(database, turn - timedelta(days=32)) == [(customer_id, 0)]


async def used_at(database: asyncpg.Connection, instant: datetime) -> list[tuple[UUID, int]]:
    """Every customer's usage of the month, had it been asked then."""
    rows = await database.fetch("SELECT id, monthly_usage FROM customers_at($1)", instant)
    return [(row["id"], row["monthly_usage"]) for row in rows]


@pytest.mark.parametrize("time_zone", TIME_ZONES)
async def test_the_view_is_the_function_at_this_instant(database: asyncpg.Connection, customer_id: UUID, time_zone: str) -> None:
    await database.execute(f"SET timezone = '{time_zone}'")
    async with database.transaction():
        assert await database.fetch("SELECT * FROM customers") == await database.fetch("SELECT * FROM customers_at(now())")


async def test_quotas_are_the_price_lists(database: asyncpg.Connection) -> None:
    rows = await database.fetch("SELECT tier, monthly_quota FROM tier_quotas")
    assert {row["tier"]: row["monthly_quota"] for row in rows} == {
        tier.value: terms.monthly_quota for tier, terms in tier_terms().items()
    }


async def test_a_customers_own_quota_comes_before_its_tiers(database: asyncpg.Connection, customer_id: UUID) -> None:
    assert await database.fetchval("SELECT monthly_quota FROM customers") == 100_000
    await database.execute("UPDATE customer_accounts SET per_month = 250000 WHERE id = $1", customer_id)
    assert await database.fetchval("SELECT monthly_quota FROM customers") == 250_000
