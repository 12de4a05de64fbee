"""A closed month with rows of two customers on three days, every one of them settled."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from uuid import UUID

import asyncpg
import pytest
from structlog.typing import FilteringBoundLogger

from control_plane.db import connect
from control_plane.metrics import Metrics
from control_plane.objects import ObjectStore, create_objects
from control_plane.usage.archive.retention import Archivist
from control_plane.usage.event import UsageEvent, UsageStatus, encode
from control_plane.usage.intake import Intake
from tests.control_plane.fake_objects import FakeObjects
from tests.control_plane.usage.making import make_customer, make_event

TODAY = datetime.now(UTC).date()
MONTH = (TODAY.replace(day=1) - timedelta(days=70)).replace(day=1)
DAYS = [MONTH, MONTH + timedelta(days=9), (MONTH + timedelta(days=31)).replace(day=1) - timedelta(days=1)]


@pytest.fixture
def fake() -> FakeObjects:
    """A store that does what the test says."""
    return FakeObjects()


@pytest.fixture
async def objects(objects_url: str) -> AsyncIterator[ObjectStore]:
    """The real store."""
    store = create_objects(objects_url)
    yield store
    await store.aclose()


async def take(database: asyncpg.Connection, events: list[UsageEvent]) -> int:
    """Rows and roll-ups, as the recorder makes them. Returns how many were taken."""
    outcome = await Intake().take(database, [encode(event) for event in events], now=datetime.now(UTC))
    return outcome.recorded


async def settle(database: asyncpg.Connection) -> None:
    """What a close leaves behind: everything metered is rated, and the month is closed."""
    await database.execute(
        """
        INSERT INTO rated_usage (customer_id, day, subscription_id, month, quantity, is_late)
        SELECT u.customer_id, day, s.id, $1, billable_requests, false
        FROM usage_days u JOIN subscriptions s ON s.customer_id = u.customer_id WHERE billable_requests > 0
        """,
        MONTH,
    )
    await database.execute("INSERT INTO closed_months (month, invoices, closed_by) VALUES ($1, 0, 'test')", MONTH)


@pytest.fixture
async def events(database: asyncpg.Connection, customer_id: UUID) -> list[UsageEvent]:
    """78 requests of two customers, six kinds of ending, at the first and last instants of days too."""
    other = await make_customer(database, tier="free", company_name="Other")
    instants = [datetime.combine(day, datetime.min.time(), tzinfo=UTC) for day in DAYS]
    instants += [instant + timedelta(days=1, milliseconds=-1) for instant in instants]
    made = [
        make_event(customer, at=instant, status=status, compute_ms=None if status is UsageStatus.INVALID else 20.0005 + n)
        for customer in (customer_id, other)
        for n, instant in enumerate(instants)
        for status in UsageStatus
    ]
    made += [make_event(customer_id, at=instants[0], action=None, instruction=None) for _ in range(6)]
    assert await take(database, [*made, make_event(customer_id, at=instants[0], is_test=True, schema=2)]) == len(made) + 1
    return made


@pytest.fixture
async def closed(database: asyncpg.Connection, events: list[UsageEvent]) -> list[UsageEvent]:
    """The same, settled and closed."""
    await settle(database)
    return events


@pytest.fixture
def archivist(database_url: str, metrics: Metrics, log: FilteringBoundLogger, fake: FakeObjects) -> Archivist:
    """As the worker makes it, with the fake store."""
    open_connection = partial(connect, database_url, timeout_s=30.0, name="test")
    return Archivist(connect=open_connection, objects=fake, metrics=metrics, log=log)


def after(days: int) -> date:
    """The day on which a retention of that many days is over for MONTH."""
    return (MONTH + timedelta(days=31)).replace(day=1) + timedelta(days=days)
