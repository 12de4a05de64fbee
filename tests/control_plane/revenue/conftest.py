"""A small business: six customers over three months, two of them closed, with everything that a report has to get right."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import create_engine
from tests.control_plane.invoices.making import a_customer, change_plan, close, use

__all__ = ["change_plan"]

TODAY = datetime.now(UTC).date()
RUNNING = TODAY.replace(day=1)
LAST = (RUNNING - timedelta(days=1)).replace(day=1)
FIRST = (LAST - timedelta(days=1)).replace(day=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Business:
    """Who is who."""

    acme: UUID  # enterprise from the beginning
    tech: UUID  # pro; enterprise since the middle of LAST
    free: UUID  # free, begins in LAST
    gone: UUID  # pro, leaves in LAST
    euro: UUID  # enterprise with prices of its own in EUR
    discount: UUID  # enterprise with a commitment and 10 % off, new in RUNNING


def begin(month: date, day: int = 1) -> datetime:
    """An instant in that month."""
    return datetime(month.year, month.month, day, tzinfo=UTC)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """As the worker's."""
    engine = create_engine(database_url, timeout_s=60.0)
    yield engine
    await engine.dispose()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's own database."""
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    yield connection
    await connection.close()


@pytest.fixture
async def business(database: asyncpg.Connection, engine: AsyncEngine) -> Business:
    """FIRST and LAST are closed, RUNNING runs."""
    start = begin(FIRST)
    made = Business(
        acme=await a_customer(database, tier="enterprise", created_at=start, company_name="Acme Robotics Inc."),
        tech=await a_customer(database, tier="pro", created_at=start, company_name="TechCorp LLC"),
        free=await a_customer(database, tier="free", created_at=begin(LAST, 3), company_name="AutoMate Inc"),
        gone=await a_customer(database, tier="pro", created_at=start, company_name="Gone & <Sons>"),
        euro=await a_customer(database, tier="enterprise", created_at=start, company_name="Euro Robotik GmbH"),
        discount=await a_customer(database, tier="free", created_at=begin(RUNNING), company_name="=New Customer"),
    )
    await change_plan(database, made.tech, begin(LAST, 15), "enterprise")
    await change_plan(database, made.gone, begin(LAST, 10), "pro", is_active=False)
    await change_plan(database, made.euro, start, "enterprise", currency="EUR", monthly_cents=200_000, per_request_cents=2)
    terms = {"committed_requests": 100_000, "discount_basis_points": 1_000}
    await change_plan(database, made.discount, begin(RUNNING), "enterprise", **terms)
    await use(database, made.acme, FIRST, 30_000)
    await use(database, made.acme, LAST, 36_450)
    await use(database, made.tech, LAST + timedelta(days=20), 8_200)
    await use(database, made.euro, LAST, 1_001)
    await use(database, made.gone, FIRST, 5_100)
    await use(database, made.free, LAST + timedelta(days=4), 980)
    await close(engine, FIRST)
    await close(engine, LAST)
    await use(database, made.acme, RUNNING, 12_345)
    await use(database, made.discount, RUNNING, 100_500)
    return made
