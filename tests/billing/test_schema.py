"""What the database itself refuses, whoever writes: final invoices, closed months, unbalanced books, histories."""

from collections.abc import AsyncIterator
from datetime import date
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.control_plane.usage.making import make_customer


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's own database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def draft(database: asyncpg.Connection, customer: UUID, *, cents: int = 50_000) -> UUID:
    """A draft with one line."""
    invoice = uuid4()
    await database.execute(
        """
        INSERT INTO invoices (id, customer_id, month, currency, legal_entity, total_cents, seller, buyer, prices)
        VALUES ($1, $2, '2026-09-01', 'USD', 'us', $3, '{}', '{}', '{}')
        """,
        invoice,
        customer,
        cents,
    )
    await database.execute(
        """
        INSERT INTO invoice_lines (invoice_id, position, kind, description, service_month, starts_at, ends_at, amount_cents)
        VALUES ($1, 1, 'fee', 'Pro', '2026-09-01', '2026-09-01', '2026-10-01', $2)
        """,
        invoice,
        cents,
    )
    return invoice


_FINALIZE = """
    UPDATE invoices SET state = 'finalized', sequence_number = 1, number = 'US-1', content_hash = '\\x00', finalized_at = now(),
                        due_on = '2026-10-15' WHERE id = $1
"""


async def final(database: asyncpg.Connection, customer: UUID, *, cents: int = 50_000) -> UUID:
    """A finalized invoice."""
    invoice = await draft(database, customer, cents=cents)
    await database.execute(_FINALIZE, invoice)
    return invoice


async def pay(database: asyncpg.Connection, invoice: UUID, customer: UUID, cents: int) -> None:
    """A payment's row."""
    await database.execute(
        "INSERT INTO payments (id, invoice_id, customer_id, method, reference, amount_cents, currency, received_at, recorded_by)"
        " VALUES (uuidv7(), $1, $2, 'bank_transfer', uuidv7()::text, $3, 'USD', now(), 'test')",
        invoice,
        customer,
        cents,
    )


async def credit(database: asyncpg.Connection, invoice: UUID, customer: UUID, cents: int) -> None:
    """A credit note's row."""
    await database.execute(
        "INSERT INTO credit_notes (id, invoice_id, customer_id, legal_entity, sequence_number, number, amount_cents, currency,"
        " reason, seller, buyer, content_hash, created_by) VALUES (uuidv7(), $1, $2, 'us', $3, $4, $5, 'USD', 'r', '{}', '{}',"
        " '\\x00', 'test')",
        invoice,
        customer,
        uuid4().int % 10**9,
        str(uuid4()),
        cents,
    )


@pytest.mark.parametrize(
    ("moves", "is_allowed"),
    [
        (["void"], True),
        (["uncollectible", "void"], True),
        (["draft"], False),
        (["void", "finalized"], False),
        (["void", "paid"], False),
        (["uncollectible", "finalized"], False),
    ],
)
async def test_an_invoice_moves_only_as_the_life_cycle_allows(
    database: asyncpg.Connection, moves: list[str], is_allowed: bool
) -> None:
    invoice = await final(database, await make_customer(database))
    update = "UPDATE invoices SET state = $2, voided_at = now(), uncollectible_at = now(), paid_at = now() WHERE id = $1"
    for move in moves[:-1]:
        await database.execute(update, invoice, move)
    if is_allowed:
        await database.execute(update, invoice, moves[-1])
    else:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await database.execute(update, invoice, moves[-1])


async def test_a_draft_cannot_be_paid_and_nothing_begins_as_final(database: asyncpg.Connection) -> None:
    customer = await make_customer(database)
    invoice = await draft(database, customer)
    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute("UPDATE invoices SET state = 'paid', paid_at = now() WHERE id = $1", invoice)
    with pytest.raises(asyncpg.CheckViolationError, match="begins as a draft"):
        await database.execute(
            "INSERT INTO invoices (id, customer_id, month, currency, state, legal_entity, total_cents, seller, buyer, prices)"
            " VALUES (uuidv7(), $1, '2026-08-01', 'USD', 'finalized', 'us', 1, '{}', '{}', '{}')",
            customer,
        )


async def test_a_total_that_is_not_the_sum_of_its_lines_is_never_final(database: asyncpg.Connection) -> None:
    invoice = await draft(database, await make_customer(database))
    await database.execute("UPDATE invoices SET total_cents = 1 WHERE id = $1", invoice)
    with pytest.raises(asyncpg.CheckViolationError, match="sum of the lines"):
        await database.execute(_FINALIZE, invoice)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE invoices SET total_cents = 1",
        "UPDATE invoices SET number = 'US-2'",
        "UPDATE invoices SET buyer = '{\"x\": 1}'",
        "UPDATE invoices SET content_hash = '\\x01'",
        "DELETE FROM invoices",
        "UPDATE invoice_lines SET amount_cents = 1",
        "DELETE FROM invoice_lines",
        "INSERT INTO invoice_lines SELECT invoice_id, 2, kind, description, service_month, starts_at, ends_at FROM invoice_lines",
    ],
)
async def test_a_final_invoice_cannot_be_touched(database: asyncpg.Connection, statement: str) -> None:
    await final(database, await make_customer(database))
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await database.execute(statement)


async def test_a_draft_can_be_thrown_away(database: asyncpg.Connection) -> None:
    invoice = await draft(database, await make_customer(database))
    await database.execute("DELETE FROM invoices WHERE id = $1", invoice)
    assert await database.fetchval("SELECT count(*) FROM invoice_lines") == 0


async def test_payments_and_credit_notes_stay_below_the_invoice(database: asyncpg.Connection) -> None:
    customer = await make_customer(database)
    invoice = await final(database, customer, cents=100)
    with pytest.raises(asyncpg.CheckViolationError, match="at most what is open"):
        await pay(database, invoice, customer, 101)
    await pay(database, invoice, customer, 60)
    with pytest.raises(asyncpg.CheckViolationError, match="not paid in full"):
        await database.execute("UPDATE invoices SET state = 'paid', paid_at = now()")
    with pytest.raises(asyncpg.CheckViolationError, match="credit note"):
        await database.execute("UPDATE invoices SET state = 'void', voided_at = now()")
    await credit(database, invoice, customer, 40)
    await database.execute("UPDATE invoices SET state = 'paid', paid_at = now()")
    await credit(database, invoice, customer, 60)
    with pytest.raises(asyncpg.CheckViolationError, match="takes back at most"):
        await credit(database, invoice, customer, 1)


async def test_a_transaction_that_does_not_balance_is_not_committed(database: asyncpg.Connection) -> None:
    customer = await make_customer(database)
    invoice = await final(database, customer)
    insert = (
        "INSERT INTO ledger_entries (transaction_id, kind, account, amount_cents, currency, customer_id, invoice_id)"
        " VALUES ($1, 'finalized', $2, $3, 'USD', $4, $5)"
    )
    transaction = uuid4()

    async def book(*amounts: tuple[str, int]) -> None:
        async with database.transaction():
            for account, cents in amounts:
                await database.execute(insert, transaction, account, cents, customer, invoice)

    with pytest.raises(asyncpg.CheckViolationError, match="does not balance"):
        await book(("receivable", 100), ("revenue_fees", -99))
    await book(("receivable", 100), ("revenue_fees", -100))
    for change in ("UPDATE ledger_entries SET amount_cents = 1", "DELETE FROM ledger_entries"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await database.execute(change)


async def test_the_history_follows_every_change_of_an_account(database: asyncpg.Connection) -> None:
    customer = await make_customer(database, tier="free")
    await database.execute("UPDATE customer_accounts SET tier = 'pro'")
    await database.execute("UPDATE customer_accounts SET tier = 'pro', company_name = 'Other'")  # nothing that is billed
    await database.execute("UPDATE customer_accounts SET is_active = false")
    await database.execute("UPDATE customer_accounts SET is_active = true")
    rows = await database.fetch("SELECT * FROM subscriptions WHERE customer_id = $1 ORDER BY effective_at, id", customer)
    kept = [(row["tier"], row["is_active"]) for row in rows]
    assert kept == [("free", True), ("pro", True), ("pro", False), ("pro", True)]


async def test_an_own_price_survives_a_pause_and_ends_with_the_tier(database: asyncpg.Connection) -> None:
    customer = await make_customer(database, tier="enterprise")
    await database.execute(
        "INSERT INTO subscriptions (id, customer_id, effective_at, tier, discount_basis_points, created_by)"
        " VALUES (uuidv7(), $1, clock_timestamp(), 'enterprise', 1000, 'test')",
        customer,
    )
    await database.execute("UPDATE customer_accounts SET is_active = false")
    await database.execute("UPDATE customer_accounts SET is_active = true")
    await database.execute("UPDATE customer_accounts SET tier = 'pro'")
    rows = await database.fetch("SELECT discount_basis_points AS d FROM subscriptions ORDER BY effective_at, id")
    assert [row["d"] for row in rows] == [0, 1000, 1000, 1000, 0]


async def test_a_deactivated_customer_has_no_change_planned(database: asyncpg.Connection) -> None:
    customer = await make_customer(database)
    await database.execute(
        "INSERT INTO subscriptions (id, customer_id, effective_at, tier, created_by)"
        " VALUES (uuidv7(), $1, now() + interval '1 day', 'enterprise', 'test')",
        customer,
    )
    await database.execute("UPDATE customer_accounts SET is_active = false")
    assert await database.fetchval("SELECT canceled_by FROM subscriptions WHERE effective_at > now()") == "account"


async def test_a_closed_month_takes_no_change_of_plan_and_settles_no_usage(database: asyncpg.Connection) -> None:
    customer = await make_customer(database)
    await database.execute("INSERT INTO closed_months VALUES ('2026-09-01', 0, 'test')")
    with pytest.raises(asyncpg.CheckViolationError, match="is closed"):
        await database.execute(
            "INSERT INTO subscriptions (id, customer_id, effective_at, tier, created_by)"
            " VALUES (uuidv7(), $1, '2026-09-30 23:59:59+00', 'free', 'test')",
            customer,
        )
    with pytest.raises(asyncpg.RestrictViolationError, match="is closed"):
        await database.execute(
            "INSERT INTO rated_usage SELECT $1, '2026-09-01', id, '2026-09-01', 1, false FROM subscriptions", customer
        )
    with pytest.raises(asyncpg.RestrictViolationError):
        await database.execute("DELETE FROM closed_months")


@pytest.mark.parametrize("month", [date(2026, 8, 1), date(2025, 8, 1), date(9998, 12, 1), date(2026, 10, 2)])
async def test_months_are_closed_in_order_and_when_they_are_over(database: asyncpg.Connection, month: date) -> None:
    insert = "INSERT INTO closed_months VALUES ($1, 0, 'test')"
    await database.execute(insert, date(2026, 9, 1))
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await database.execute(insert, month)
    await database.execute(insert, date(2026, 10, 1))


@pytest.mark.parametrize("statement", ["UPDATE subscriptions SET tier = 'free'", "DELETE FROM subscriptions"])
async def test_a_subscription_is_canceled_at_most(database: asyncpg.Connection, statement: str) -> None:
    await make_customer(database)
    with pytest.raises(asyncpg.RestrictViolationError):
        await database.execute(statement)
