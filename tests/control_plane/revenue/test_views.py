"""The views agree with invoices to the cent where there are some, and with the rating where there are none yet."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.invoices.close import draft_month
from control_plane.invoices.seller import STAND_IN
from control_plane.revenue.costs import Costs, keep_costs
from control_plane.revenue.open_month import refresh
from tests.control_plane.invoices.making import a_customer, use
from tests.control_plane.revenue.conftest import FIRST, LAST, RUNNING, Business, begin, change_plan

SUMS = "SELECT currency, sum({0})::bigint FROM {1} WHERE month = $1 GROUP BY 1"


async def sums(database: asyncpg.Connection, column: str, view: str, month: date) -> dict[str, int]:
    """By currency."""
    return {row[0]: row[1] for row in await database.fetch(SUMS.format(column, view), month)}


async def month_of(database: asyncpg.Connection, month: date, currency: str = "USD") -> asyncpg.Record:
    """One row of revenue_months."""
    return await database.fetchrow("SELECT * FROM revenue_months WHERE month = $1 AND currency = $2", month, currency)


@pytest.mark.parametrize("month", [FIRST, LAST])
async def test_a_closed_month_is_what_its_invoices_say_to_the_cent(
    database: asyncpg.Connection, engine: AsyncEngine, business: Business, month: date
) -> None:
    await refresh(engine)
    invoiced = {
        row["currency"]: row["cents"]
        for row in await database.fetch(
            "SELECT currency, sum(total_cents)::bigint AS cents FROM invoices WHERE month = $1 GROUP BY 1", month
        )
    }
    assert await sums(database, "revenue_cents", "revenue_by_tier", month) == invoiced
    assert await sums(database, "revenue_cents", "revenue_by_customer", month) == invoiced
    found = await sums(database, "revenue_cents", "revenue_months", month)
    assert {currency: cents for currency, cents in found.items() if cents} == invoiced
    assert await sums(database, "fees_cents + usage_cents", "revenue_by_customer", month) == invoiced


async def test_acme_is_there_with_its_2864_dollars_and_50_cents(
    database: asyncpg.Connection, engine: AsyncEngine, business: Business
) -> None:
    row = await database.fetchrow("SELECT * FROM revenue_by_customer WHERE month = $1 AND customer_id = $2", LAST, business.acme)
    assert (row["fees_cents"], row["usage_cents"], row["revenue_cents"]) == (250_000, 36_450, 286_450)


async def test_the_running_month_is_what_drafts_of_it_would_say_to_the_cent(
    database: asyncpg.Connection, engine: AsyncEngine, business: Business
) -> None:
    await use(database, business.tech, LAST, 77)  # late: its month is closed
    await refresh(engine)
    shown = {
        (row["customer_id"], row["currency"]): row["revenue_cents"]
        for row in await database.fetch("SELECT * FROM revenue_by_customer WHERE month = $1", RUNNING)
    }
    by_tier = await sums(database, "revenue_cents", "revenue_by_tier", RUNNING)
    await draft_month(engine, RUNNING, STAND_IN)
    drafted = await database.fetch("SELECT customer_id, currency, total_cents FROM invoices WHERE state = 'draft'")
    assert shown == {(row["customer_id"], row["currency"]): row["total_cents"] for row in drafted}
    assert by_tier == {
        currency: sum(row["total_cents"] for row in drafted if row["currency"] == currency) for currency in ("USD", "EUR")
    }


async def test_two_open_months_count_late_usage_once(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    customer = await a_customer(database, tier="enterprise", created_at=begin(LAST))
    await use(database, customer, LAST, 1_000)
    await use(database, customer, RUNNING, 10)
    await refresh(engine)
    found = await database.fetch("SELECT month, usage_cents FROM revenue_by_customer ORDER BY month")
    assert [(row["month"], row["usage_cents"]) for row in found] == [(LAST, 1_000), (RUNNING, 10)]


async def test_discounts_are_shared_between_fees_and_usage_as_the_ledger_will(
    database: asyncpg.Connection, engine: AsyncEngine, business: Business
) -> None:
    await refresh(engine)
    row = await database.fetchrow(
        "SELECT * FROM revenue_by_customer WHERE month = $1 AND customer_id = $2", RUNNING, business.discount
    )
    gross_fees, gross_usage = 250_000 + 100_000, 500
    assert row["revenue_cents"] == (gross_fees + gross_usage) * 9 // 10
    assert row["usage_cents"] == 450


async def test_mrr_is_what_plans_are_worth_in_a_month_and_no_usage(
    database: asyncpg.Connection, engine: AsyncEngine, business: Business
) -> None:
    await refresh(engine)
    assert (await month_of(database, FIRST))["mrr_cents"] == 250_000 + 50_000 + 50_000
    assert (await month_of(database, LAST))["mrr_cents"] == 250_000 + 250_000  # tech moved up, gone is gone
    assert (await month_of(database, RUNNING))["mrr_cents"] == 250_000 + 250_000 + (250_000 + 100_000) * 9 // 10
    assert (await month_of(database, LAST, "EUR"))["mrr_cents"] == 200_000


async def test_customers_come_and_go_and_always_add_up(database: asyncpg.Connection, business: Business) -> None:
    months = {row["month"]: row for row in await database.fetch("SELECT * FROM customer_months")}
    for row in months.values():
        assert row["active_at_start"] + row["new"] + row["returned"] - row["churned"] == row["active_at_end"]
    last = months[LAST]
    assert (last["active_at_start"], last["new"], last["churned"], last["active_at_end"]) == (4, 1, 1, 4)
    assert (last["paying_at_start"], last["paying_lost"], last["churn_pct"]) == (4, 1, 25)
    assert (last["requests"], last["requests_before"], last["requests_growth_pct"]) == (46_631, 35_100, Decimal("32.9"))
    assert months[FIRST]["churn_pct"] is None  # nobody was there at its start


async def test_movements_say_why_mrr_changed(database: asyncpg.Connection, business: Business) -> None:
    rows = await database.fetch("SELECT * FROM customer_movements WHERE mrr_movement <> 'none' AND month >= $1", LAST)
    assert {(row["customer_id"], row["month"]): row["mrr_movement"] for row in rows} == {
        (business.tech, LAST): "expansion",
        (business.gone, LAST): "churn",
        (business.discount, RUNNING): "new",
    }
    await change_plan(database, business.gone, datetime.now(UTC) - timedelta(minutes=1), "pro")
    row = await database.fetchrow(
        "SELECT * FROM customer_movements WHERE customer_id = $1 AND month = $2", business.gone, RUNNING
    )
    assert (row["movement"], row["mrr_movement"]) == ("returned", "reactivation")


async def test_a_planned_change_is_not_counted_before_it_comes(database: asyncpg.Connection, business: Business) -> None:
    await change_plan(database, business.tech, datetime.now(UTC) + timedelta(days=1), "free")
    row = await database.fetchrow(
        "SELECT * FROM customer_movements WHERE customer_id = $1 AND month = $2", business.tech, RUNNING
    )
    assert row["mrr_end_cents"] == 250_000


async def test_costs_make_a_margin_and_a_new_price_leaves_the_past_alone(
    database: asyncpg.Connection, engine: AsyncEngine, business: Business
) -> None:
    assert (await month_of(database, LAST))["margin_cents"] is None
    async with engine.begin() as connection:
        await keep_costs(connection, Costs(currency="USD", gpu_cents_per_h=Decimal(0), server_cents_per_h=Decimal(0)))
        await keep_costs(connection, Costs(currency="USD", gpu_cents_per_h=Decimal("600.5"), server_cents_per_h=Decimal(100)))
    before = await month_of(database, LAST)
    hours = (RUNNING - LAST).days * 24
    assert (before["gpu_cents"], before["server_cents"]) == (hours * 1201 // 2, hours * 100)
    assert before["margin_cents"] == before["revenue_cents"] - before["gpu_cents"] - before["server_cents"]
    async with engine.begin() as connection:
        for _ in range(2):
            await keep_costs(connection, Costs(currency="USD", gpu_cents_per_h=Decimal(1200), server_cents_per_h=Decimal(100)))
    assert dict(await month_of(database, LAST)) == dict(before)
    assert await database.fetchval("SELECT count(*) FROM cost_rates") == 2
    running = await month_of(database, RUNNING)
    assert running["gpu_cents"] > before["gpu_cents"] // 32 * 28


async def test_an_empty_service_has_no_months(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    assert await refresh(engine) == 0
    for view in ("revenue_months", "customer_months", "revenue_by_tier", "revenue_by_customer", "customer_movements"):
        assert await database.fetch(f"SELECT * FROM {view}") == []  # noqa: S608
