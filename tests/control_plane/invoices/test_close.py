"""Closing a month on a real database: right to the cent, once, in order, and again as often as one likes."""

import asyncio
from datetime import UTC, date, datetime

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from billing.statement import content_hash
from control_plane.errors import ApiError
from control_plane.invoices.close import draft_month
from control_plane.invoices.reading import read_statement
from control_plane.invoices.seller import STAND_IN
from tests.control_plane.invoices.making import (
    OCTOBER,
    SEPTEMBER,
    a_customer,
    change_plan,
    close,
    dec,
    lines_of,
    request_at,
    totals,
    use,
)


async def test_acme_robotics_pays_2864_dollars_and_50_cents(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    acme = await a_customer(database, tier="enterprise", company_name="Acme Robotics Inc.")
    for day in range(1, 31):
        await use(database, acme, date(2026, 9, day), 1_215)
    closed = await close(engine, SEPTEMBER)
    assert closed.totals == ("1 in USD: USD 2,864.50",)
    assert await lines_of(database, acme, SEPTEMBER) == [("fee", None, 250_000), ("usage", 36_450, 36_450)]
    assert await totals(database, SEPTEMBER) == {"INV-000001": 286_450}


async def test_closing_again_changes_nothing(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    for _ in range(3):
        await use(database, await a_customer(database, tier="enterprise"), SEPTEMBER, 5)
    await close(engine, SEPTEMBER)
    before = await database.fetch("SELECT * FROM invoices ORDER BY id")
    again = await close(engine, SEPTEMBER)
    assert (again.was_closed, again.finalized, again.documents) == (True, 0, 0)
    assert await database.fetch("SELECT * FROM invoices ORDER BY id") == before
    assert await database.fetchval("SELECT count(*) FROM invoice_documents") == 3


async def test_who_has_nothing_to_pay_gets_no_invoice_and_what_they_used_is_settled(
    database: asyncpg.Connection, engine: AsyncEngine
) -> None:
    free = await a_customer(database, tier="free")
    await use(database, free, SEPTEMBER, 980)
    await close(engine, SEPTEMBER)
    assert await totals(database, SEPTEMBER) == {}
    assert await database.fetchval("SELECT sum(quantity) FROM rated_usage WHERE invoice_id IS NULL") == 980


async def test_what_comes_late_is_on_the_next_invoice_and_says_so(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    acme = await a_customer(database, tier="enterprise")
    await use(database, acme, date(2026, 9, 30), 100)
    await close(engine, SEPTEMBER)
    await use(database, acme, date(2026, 9, 30), 7)
    await use(database, acme, date(2026, 10, 1), 3)
    await close(engine, OCTOBER)
    assert await lines_of(database, acme, OCTOBER) == [("fee", None, 250_000), ("usage", 3, 3), ("usage", 7, 7)]
    late = await database.fetchrow("SELECT * FROM invoice_lines WHERE is_late")
    assert late is not None
    assert late["service_month"] == SEPTEMBER
    assert late["description"] == "Enterprise plan: requests of September 2026, recorded or corrected after it was invoiced"
    settled = await database.fetch("SELECT day, month, quantity, is_late FROM rated_usage ORDER BY day, month")
    assert [tuple(row) for row in settled] == [
        (date(2026, 9, 30), SEPTEMBER, 100, False),
        (date(2026, 9, 30), OCTOBER, 7, True),
        (date(2026, 10, 1), OCTOBER, 3, False),
    ]


async def test_late_requests_cost_what_they_would_have_cost_in_time(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    """100 requests at 0.3 cents, one by one over two closes, are 30 cents and not 100 roundings."""
    acme = await a_customer(database)
    await change_plan(database, acme, datetime(2026, 9, 1, tzinfo=UTC), "pro", per_request_cents=dec("0.3"))
    await use(database, acme, SEPTEMBER, 2)  # 0.6 → 1
    await close(engine, SEPTEMBER)
    await use(database, acme, SEPTEMBER, 1)  # 0.9 → 1: nothing more
    await close(engine, OCTOBER)
    await use(database, acme, SEPTEMBER, 2)  # 1.5 → 2
    assert (await lines_of(database, acme, SEPTEMBER))[1] == ("usage", 2, 1)
    assert ("usage", 1, 0) in await lines_of(database, acme, OCTOBER)


async def test_a_late_request_inside_the_commitment_costs_nothing_more(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    acme = await a_customer(database, tier="enterprise")
    own = {"committed_requests": 1000, "per_request_cents": dec("0.8"), "overage_per_request_cents": dec("1.5")}
    await change_plan(database, acme, datetime(2026, 9, 1, tzinfo=UTC), "enterprise", **own)
    await use(database, acme, SEPTEMBER, 990)
    await close(engine, SEPTEMBER)
    assert await lines_of(database, acme, SEPTEMBER) == [
        ("fee", None, 250_000),
        ("commitment", 1000, 800),
        ("overage", 990, 0),
    ]
    await use(database, acme, SEPTEMBER, 12)
    await close(engine, OCTOBER)
    assert ("overage", 12, 3) in await lines_of(database, acme, OCTOBER)


async def test_a_correction_is_a_new_record_and_a_line_of_its_own(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    acme = await a_customer(database, tier="enterprise")
    await use(database, acme, SEPTEMBER, 1000)
    await close(engine, SEPTEMBER)
    await database.execute(
        "INSERT INTO usage_adjustments (id, customer_id, day, quantity, reason, created_by)"
        " VALUES (uuidv7(), $1, '2026-09-01', -400, 'our robot', 'test')",
        acme,
    )
    await close(engine, OCTOBER)
    assert await lines_of(database, acme, OCTOBER) == [("fee", None, 250_000), ("usage", -400, -400)]


async def test_an_invoice_below_zero_is_carried_to_the_customers_credit(
    database: asyncpg.Connection, engine: AsyncEngine
) -> None:
    acme = await a_customer(database, tier="enterprise")
    await use(database, acme, SEPTEMBER, 1000)
    await change_plan(database, acme, datetime(2026, 10, 1, tzinfo=UTC), "free")
    await close(engine, SEPTEMBER)
    await database.execute(
        "INSERT INTO usage_adjustments (id, customer_id, day, quantity, reason, created_by)"
        " VALUES (uuidv7(), $1, '2026-09-01', -400, 'our robot', 'test')",
        acme,
    )
    await close(engine, OCTOBER)
    assert await lines_of(database, acme, OCTOBER) == [("usage", -400, -400), ("carried", None, 400)]
    credit = "SELECT sum(amount_cents) FROM ledger_entries WHERE account = 'customer_credit'"
    assert await database.fetchval(credit) == -400


async def test_a_plan_changed_at_noon_cuts_the_day_where_the_rows_are(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    acme = await a_customer(database, tier="pro")
    noon = datetime(2026, 9, 16, 12, tzinfo=UTC)
    await request_at(database, acme, noon.replace(hour=11, minute=59), noon.replace(hour=3))
    await request_at(database, acme, noon, noon.replace(hour=23))
    await request_at(database, acme, datetime(2026, 9, 15, tzinfo=UTC), datetime(2026, 9, 17, tzinfo=UTC))
    await use(database, acme, date(2026, 9, 16), 1)  # in the roll-up, without a row: goes where it is cheapest
    await change_plan(database, acme, noon, "enterprise")
    await close(engine, SEPTEMBER)
    assert await lines_of(database, acme, SEPTEMBER) == [
        ("fee", None, 25_833),  # 15.5 of 30 days of 500.00
        ("fee", None, 120_833),  # 14.5 of 30 days of 2,500.00
        ("usage", 4, 0),
        ("usage", 3, 3),
    ]


async def test_a_customer_with_two_currencies_in_a_month_gets_an_invoice_in_each(
    database: asyncpg.Connection, engine: AsyncEngine
) -> None:
    acme = await a_customer(database)
    own = {"currency": "EUR", "monthly_cents": 40_000, "per_request_cents": dec("0")}
    await change_plan(database, acme, datetime(2026, 9, 16, tzinfo=UTC), "pro", **own)
    closed = await close(engine, SEPTEMBER)
    assert closed.totals == ("1 in EUR: EUR 200.00", "1 in USD: USD 250.00")


async def test_drafts_can_be_made_again_and_final_invoices_cannot(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    acme = await a_customer(database, tier="enterprise")
    await use(database, acme, SEPTEMBER, 10)
    assert await draft_month(engine, SEPTEMBER, STAND_IN) == 1
    await use(database, acme, SEPTEMBER, 5)
    assert await draft_month(engine, SEPTEMBER, STAND_IN) == 1
    assert await lines_of(database, acme, SEPTEMBER) == [("fee", None, 250_000), ("usage", 15, 15)]
    await close(engine, SEPTEMBER)
    await use(database, acme, SEPTEMBER, 1)
    assert await draft_month(engine, SEPTEMBER, STAND_IN) == 0
    assert (await lines_of(database, acme, SEPTEMBER))[1] == ("usage", 15, 15)


async def test_two_who_close_at_once_give_each_customer_one_invoice_and_leave_no_gap(
    database: asyncpg.Connection, engine: AsyncEngine
) -> None:
    for _ in range(12):
        await use(database, await a_customer(database, tier="enterprise"), SEPTEMBER, 2)
    await asyncio.gather(*(close(engine, SEPTEMBER) for _ in range(3)))
    assert await totals(database, SEPTEMBER) == {f"INV-{number:06d}": 250_002 for number in range(1, 13)}
    assert await database.fetchval("SELECT last_number FROM invoice_sequences") == 12


async def test_what_was_written_is_what_is_read_under_its_hash(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    acme = await a_customer(database, tier="enterprise")
    await change_plan(database, acme, datetime(2026, 9, 3, 4, 5, 6, 789, tzinfo=UTC), "enterprise", discount_basis_points=333)
    await use(database, acme, date(2026, 9, 9), 77)
    await close(engine, SEPTEMBER)
    row = await database.fetchrow("SELECT id, content_hash FROM invoices")
    assert row is not None
    async with engine.connect() as connection:
        assert content_hash(await read_statement(connection, row["id"])) == row["content_hash"]


async def test_the_books_balance_after_a_close(database: asyncpg.Connection, engine: AsyncEngine) -> None:
    for tier in ("pro", "enterprise"):
        await use(database, await a_customer(database, tier=tier), SEPTEMBER, 9)
    await close(engine, SEPTEMBER)
    rows = await database.fetch("SELECT account, sum(amount_cents)::bigint FROM ledger_entries GROUP BY account")
    assert {row[0]: row[1] for row in rows} == {"receivable": 300_009, "revenue_fees": -300_000, "revenue_usage": -9}


@pytest.mark.parametrize(("month", "says"), [(date(2999, 1, 1), "not over"), (OCTOBER, "Close 2026-09 first")])
async def test_a_month_is_closed_when_it_is_over_and_after_those_before(
    database: asyncpg.Connection, engine: AsyncEngine, month: date, says: str
) -> None:
    await a_customer(database)
    with pytest.raises(ApiError, match=says):
        await close(engine, month)
    assert await database.fetchval("SELECT count(*) FROM invoices") == 0
