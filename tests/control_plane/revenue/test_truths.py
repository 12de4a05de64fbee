"""Every truth of billing holds for a real business, and is found broken when it is broken."""

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from billing.invariants import INVARIANTS, Scope
from control_plane.invoices.reading import read_statement
from control_plane.metrics import Metrics, create_metrics
from control_plane.revenue.open_month import refresh
from control_plane.revenue.truths import EVER, HourlyCheck, check
from tests.control_plane.revenue.conftest import LAST, RUNNING, Business
from tests.control_plane.usage.conftest import Lines, lines, log

__all__ = ["lines", "log"]

GUARDED = ("rated_usage", "invoices", "invoice_lines", "ledger_entries", "invoice_sequences")

# What breaks each truth. Triggers are off meanwhile: this is what a bug, a restored backup or a person with a password could do.
BREAKS = {
    "roll_ups_equal_rows": [
        "UPDATE usage_days SET billable_requests = billable_requests + 1, requests = requests + 1 WHERE day >= '{running}'",
        "UPDATE usage_months SET requests = requests - 1 WHERE month = '{last}'",
        "DELETE FROM usage_months WHERE month = '{last}'",
    ],
    "every_row_is_billed_once": [
        "UPDATE rated_usage SET quantity = quantity + 1 WHERE invoice_id IS NULL",
        "INSERT INTO rated_usage SELECT customer_id, day, subscription_id, '{running}', quantity, true, invoice_id, position"
        " FROM rated_usage",
        "DELETE FROM rated_usage WHERE invoice_id IS NOT NULL",
        "UPDATE rated_usage r SET position = (SELECT position FROM invoice_lines l WHERE l.invoice_id = r.invoice_id"
        " AND kind = 'fee' LIMIT 1) WHERE invoice_id IS NOT NULL",
    ],
    "totals_equal_lines": [
        "UPDATE invoices SET total_cents = total_cents + 1 WHERE month = '{last}'",
        "DELETE FROM invoice_lines WHERE kind = 'usage'",
    ],
    "final_invoices_never_change": [
        "UPDATE invoices SET buyer = jsonb_set(buyer, '{{email}}', to_jsonb('x'::text)) WHERE month = '{last}'",
        "UPDATE invoice_lines SET description = description || '.' WHERE kind = 'fee'",
        "UPDATE invoices SET due_on = due_on + 1",
    ],
    "ledger_balances": [
        "UPDATE ledger_entries SET amount_cents = amount_cents + 1 WHERE account = 'cash' OR account = 'revenue_fees'",
        "DELETE FROM ledger_entries",
        "UPDATE invoices SET state = 'uncollectible', uncollectible_at = now() WHERE month = '{last}'",
    ],
    "numbers_have_no_gap": [
        "UPDATE invoices SET sequence_number = 99 WHERE sequence_number = 1",
        "UPDATE invoice_sequences SET last_number = last_number + 1",
        "DELETE FROM invoice_sequences",
    ],
    "customers_equal_tiers": [
        "UPDATE ledger_entries SET amount_cents = amount_cents - 1 WHERE account = 'revenue_usage'",
        "UPDATE invoice_lines SET amount_cents = amount_cents + 1 WHERE kind = 'fee'",
    ],
}


@pytest.fixture
async def true_business(database: asyncpg.Connection, engine: AsyncEngine, business: Business) -> Business:
    """With rows for what the factories only rolled up, by taking the days for archived."""
    await database.execute("INSERT INTO usage_archive (day) SELECT DISTINCT day FROM usage_days WHERE day < $1", RUNNING)
    await database.execute("DELETE FROM usage_days WHERE day >= $1", RUNNING)
    await database.execute("DELETE FROM usage_months WHERE month >= $1", RUNNING)
    await refresh(engine)
    return business


def test_every_truth_has_something_that_breaks_it() -> None:
    assert set(BREAKS) == set(INVARIANTS)


async def test_each_truth_holds_and_each_is_able_to_fail(
    database: asyncpg.Connection, engine: AsyncEngine, true_business: Business
) -> None:
    assert {name: found for name, found in (await check(engine)).items() if found} == {}
    await database.execute("INSERT INTO usage_days VALUES ($1, $2, 0, 0, 0, 0, 0, 0)", true_business.acme, RUNNING)
    scope = Scope(since=EVER, read_statement=read_statement)
    async with engine.connect() as connection:
        for name, statements in BREAKS.items():
            for statement in statements:
                for table in GUARDED:
                    await connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
                changed = await connection.execute(text(statement.format(last=LAST, running=RUNNING)))
                assert changed.rowcount > 0, statement
                found = await INVARIANTS[name](connection, scope)
                assert {violation.invariant for violation in found} == {name}, statement
                await connection.rollback()
    assert {name: found for name, found in (await check(engine)).items() if found} == {}


async def test_the_worker_counts_and_tells(
    database: asyncpg.Connection, engine: AsyncEngine, true_business: Business, log: FilteringBoundLogger, lines: Lines
) -> None:
    metrics: Metrics = create_metrics()
    hourly = HourlyCheck(engine=engine, metrics=metrics, log=log)
    await hourly.step()
    value = metrics.registry.get_sample_value
    assert {value("vla_invariant_violations", {"invariant": name}) for name in INVARIANTS} == {0}
    assert (value("vla_invariant_timestamp_seconds") or 0) > 0
    await database.execute("UPDATE usage_months SET requests = requests + 1")
    await hourly.step()
    assert (value("vla_invariant_violations", {"invariant": "roll_ups_equal_rows"}) or 0) > 0
    assert {line["invariant"] for line in lines.said("invariant violated")} == {"roll_ups_equal_rows"}
    assert EVER < LAST
