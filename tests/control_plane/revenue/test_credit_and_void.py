"""Credit notes lower the month they are issued in; void invoices count nothing; both ways to the money agree all along."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.audit.record import By
from control_plane.invoices.credit_notes import credit
from control_plane.invoices.payments import BankTransfer
from control_plane.invoices.reading import Wanted
from control_plane.invoices.seller import STAND_IN
from control_plane.invoices.verbs import give_up, list_invoices, pay, void
from control_plane.keys.verbs import Stores
from control_plane.redis import create_redis
from control_plane.revenue.open_month import refresh
from control_plane.revenue.truths import check
from tests.control_plane.revenue.conftest import LAST, RUNNING, Business
from tests.control_plane.whole_app import PEPPER

CHECKED = (
    "every_row_is_billed_once",
    "totals_equal_lines",
    "final_invoices_never_change",
    "ledger_balances",
    "customers_equal_tiers",
)


@pytest.fixture
async def stores(engine: AsyncEngine, redis_url: str) -> AsyncIterator[Stores]:
    """What every verb works on."""
    redis = create_redis(redis_url, timeout_s=10)
    yield Stores(engine=engine, redis=redis, pepper=PEPPER.encode(), by=By(actor="test"))
    await redis.aclose()


async def revenue(database: asyncpg.Connection, view: str = "revenue_by_customer") -> dict[tuple[object, str], int]:
    """By month and currency."""
    query = f"SELECT month, currency, sum(revenue_cents)::bigint AS cents FROM {view} WHERE month >= $1 GROUP BY 1, 2"  # noqa: S608
    return {(row["month"], row["currency"]): row["cents"] for row in await database.fetch(query, LAST)}


async def agreed(database: asyncpg.Connection, engine: AsyncEngine) -> dict[tuple[object, str], int]:
    """The same by both ways, with every truth holding."""
    found = await check(engine)
    assert {name: found[name] for name in CHECKED if found[name]} == {}
    by_customer = await revenue(database)
    assert by_customer == await revenue(database, "revenue_by_tier")
    return by_customer


async def test_every_fate_of_an_invoice_is_counted_as_it_must_be(
    database: asyncpg.Connection, engine: AsyncEngine, business: Business, stores: Stores
) -> None:
    await refresh(engine)
    summaries = await list_invoices(engine, Wanted(month=LAST), limit=20)
    ids = {summary.customer_id: summary for summary in summaries}
    before = await agreed(database, engine)

    await pay(stores, ids[business.acme].id, BankTransfer(reference="A"))
    await give_up(stores, ids[business.tech].id, "gone")
    assert await agreed(database, engine) == before

    await credit(stores, ids[business.acme].id, 10_001, "a wrong month", STAND_IN)
    await credit(stores, ids[business.tech].id, 333, "goodwill", STAND_IN)
    credited = await agreed(database, engine)
    assert credited[LAST, "USD"] == before[LAST, "USD"]
    assert credited[RUNNING, "USD"] == before[RUNNING, "USD"] - 10_334
    row = await database.fetchrow("SELECT * FROM revenue_months WHERE month = $1 AND currency = 'USD'", RUNNING)
    assert (row["credited_cents"], row["revenue_cents"]) == (10_334, credited[RUNNING, "USD"])

    await void(stores, ids[business.tech].id, "never owed")
    await void(stores, ids[business.euro].id, "never owed")
    after = await agreed(database, engine)
    assert after[LAST, "USD"] == before[LAST, "USD"] - ids[business.tech].total_cents
    assert after[RUNNING, "USD"] == before[RUNNING, "USD"] - 10_001
    assert (LAST, "EUR") not in after
