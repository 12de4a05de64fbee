"""What becomes of a final invoice: paid, in parts or at once, void, given up, taken back; always with books that balance."""

import asyncio
from datetime import datetime
from uuid import UUID

import asyncpg
import pytest

from billing.life_cycle import State
from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id
from control_plane.invoices.credit_notes import credit
from control_plane.invoices.payments import BankTransfer
from control_plane.invoices.reading import Wanted
from control_plane.invoices.seller import STAND_IN
from control_plane.invoices.send import send
from control_plane.invoices.verbs import give_up, list_invoices, pay, pay_from_credit, read_one, void
from control_plane.keys.verbs import Stores
from tests.control_plane.invoices.making import OCTOBER, SEPTEMBER, a_customer, close, use

TOTAL = 250_100


@pytest.fixture
async def invoice(database: asyncpg.Connection, stores: Stores) -> UUID:
    """A final invoice over 2,501.00."""
    await use(database, await a_customer(database, tier="enterprise"), SEPTEMBER, 100)
    await close(stores.engine, SEPTEMBER)
    (summary,) = await list_invoices(stores.engine, Wanted(month=SEPTEMBER), limit=10)
    return summary.id


async def books(database: asyncpg.Connection) -> dict[str, int]:
    """What every account holds, without those that hold nothing."""
    rows = await database.fetch(
        "SELECT account, sum(amount_cents)::bigint FROM ledger_entries GROUP BY 1 HAVING sum(amount_cents) <> 0"
    )
    return {row[0]: row[1] for row in rows}


async def test_a_transfer_over_everything_pays_it_and_says_who_and_when(
    database: asyncpg.Connection, stores: Stores, invoice: UUID
) -> None:
    paid = await pay(stores, invoice, BankTransfer(reference="E2E-1"))
    assert (paid.is_new, paid.invoice.state, paid.invoice.open_cents) == (True, State.PAID, 0)
    assert paid.invoice.paid_at is not None
    assert await books(database) == {"cash": TOTAL, "revenue_fees": -250_000, "revenue_usage": -100}
    moves = await database.fetch("SELECT from_state, to_state, by FROM invoice_transitions ORDER BY at")
    assert [tuple(row) for row in moves] == [("draft", "finalized", "test"), ("finalized", "paid", "test")]
    actions = await database.fetch("SELECT action FROM audit_log WHERE action LIKE 'invoice.%' ORDER BY id")
    assert [row["action"] for row in actions] == ["invoice.finalize", "invoice.pay", "invoice.paid"]


async def test_parts_are_added_up_and_the_same_reference_is_one_payment(
    database: asyncpg.Connection, stores: Stores, invoice: UUID
) -> None:
    part = BankTransfer(reference="A", amount_cents=100_000)
    assert (await pay(stores, invoice, part)).invoice.state is State.FINALIZED
    again = await pay(stores, invoice, part)
    assert (again.is_new, again.invoice.open_cents) == (False, TOTAL - 100_000)
    with pytest.raises(ApiError, match=r"USD 1,501\.00 is open"):
        await pay(stores, invoice, BankTransfer(reference="B", amount_cents=150_101))
    assert (await pay(stores, invoice, BankTransfer(reference="B"))).invoice.state is State.PAID
    with pytest.raises(ApiError, match="is paid"):
        await pay(stores, invoice, BankTransfer(reference="C"))
    assert await database.fetchval("SELECT sum(amount_cents) FROM payments") == TOTAL


async def test_a_transfer_told_again_after_it_paid_everything_changes_nothing(stores: Stores, invoice: UUID) -> None:
    for is_new in (True, False):
        paid = await pay(stores, invoice, BankTransfer(reference="A"))
        assert (paid.is_new, paid.invoice.state) == (is_new, State.PAID)


async def test_the_same_reference_with_another_amount_is_no_repetition(
    database: asyncpg.Connection, stores: Stores, invoice: UUID
) -> None:
    await pay(stores, invoice, BankTransfer(amount_cents=100))
    for other in (BankTransfer(amount_cents=200), BankTransfer()):  # both under the invoice's number
        with pytest.raises(ApiError, match=r"is booked with USD 1\.00") as refused:
            await pay(stores, invoice, other)
        assert refused.value.param == "reference"
    assert await database.fetchval("SELECT sum(amount_cents) FROM payments") == 100


@pytest.mark.parametrize("received_at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1999-12-31T00:00:00+00:00"])
async def test_money_that_came_in_no_time_is_refused(stores: Stores, invoice: UUID, received_at: str) -> None:
    with pytest.raises(ApiError) as refused:
        await pay(stores, invoice, BankTransfer(received_at=datetime.fromisoformat(received_at)))
    assert refused.value.param == "received_at"


async def test_many_who_book_the_same_transfer_at_once_book_it_once(
    database: asyncpg.Connection, stores: Stores, invoice: UUID
) -> None:
    part = BankTransfer(reference="A", amount_cents=100)
    results = await asyncio.gather(*(pay(stores, invoice, part) for _ in range(8)))
    assert sum(result.is_new for result in results) == 1
    assert await database.fetchval("SELECT count(*) FROM payments") == 1


async def test_a_void_invoice_leaves_the_books_as_if_it_had_never_been(
    database: asyncpg.Connection, stores: Stores, invoice: UUID
) -> None:
    assert (await void(stores, invoice, "wrong customer")).state is State.VOID
    assert await books(database) == {}
    for attempt in (pay(stores, invoice, BankTransfer()), void(stores, invoice, "x"), give_up(stores, invoice, "x")):
        with pytest.raises(ApiError, match="is void"):
            await attempt
    await close(stores.engine, OCTOBER)
    assert await database.fetchval("SELECT count(*) FROM invoice_lines WHERE is_late") == 0  # not billed again


async def test_what_is_given_up_is_bad_debt_until_it_is_paid_after_all(
    database: asyncpg.Connection, stores: Stores, invoice: UUID
) -> None:
    assert (await give_up(stores, invoice, "insolvent")).open_cents == TOTAL
    assert await books(database) == {"bad_debt": TOTAL, "revenue_fees": -250_000, "revenue_usage": -100}
    assert (await pay(stores, invoice, BankTransfer())).invoice.state is State.PAID
    assert await books(database) == {"cash": TOTAL, "revenue_fees": -250_000, "revenue_usage": -100}


async def test_what_was_paid_in_part_is_not_voided(stores: Stores, invoice: UUID) -> None:
    await pay(stores, invoice, BankTransfer(amount_cents=1))
    with pytest.raises(ApiError, match="corrected by a credit note"):
        await void(stores, invoice, "x")


async def test_a_credit_note_takes_back_what_is_open_first(database: asyncpg.Connection, stores: Stores, invoice: UUID) -> None:
    await pay(stores, invoice, BankTransfer(amount_cents=200_000))
    note = await credit(stores, invoice, 60_100, "an outage", STAND_IN)
    assert note.number == "CN-000001"
    summary = await read_one(stores.engine, invoice)
    assert (summary.state, summary.credited_cents, summary.open_cents) == (State.PAID, 60_100, 0)
    # 50,100 were open, 10,000 are the customer's now; fees and usage bear it in proportion.
    fees, usage = -250_000 + 60_076, -100 + 24
    assert await books(database) == {"cash": 200_000, "customer_credit": -10_000, "revenue_fees": fees, "revenue_usage": usage}


async def test_credit_pays_the_next_invoice_once(database: asyncpg.Connection, stores: Stores, invoice: UUID) -> None:
    await pay(stores, invoice, BankTransfer())
    await credit(stores, invoice, 300, "an outage", STAND_IN)
    await close(stores.engine, OCTOBER)
    (following,) = await list_invoices(stores.engine, Wanted(month=OCTOBER), limit=10)
    paid = await pay_from_credit(stores, following.id)
    assert (paid.invoice.state, paid.invoice.open_cents) == (State.FINALIZED, 250_000 - 300)
    with pytest.raises(ApiError, match="no credit"):
        await pay_from_credit(stores, following.id)
    assert "customer_credit" not in await books(database)


@pytest.mark.parametrize("cents", [TOTAL + 1, 0, -1])
async def test_a_credit_note_is_never_more_than_its_invoice(
    database: asyncpg.Connection, stores: Stores, invoice: UUID, cents: int
) -> None:
    with pytest.raises(ApiError):
        await credit(stores, invoice, cents, "too much", STAND_IN)
    await credit(stores, invoice, None, "all of it", STAND_IN)
    with pytest.raises(ApiError, match=r"USD 0\.00 of it"):
        await credit(stores, invoice, None, "again", STAND_IN)
    assert await books(database) == {}
    assert await database.fetchval("SELECT last_number FROM invoice_sequences WHERE kind = 'credit_note'") == 1


async def test_an_invoice_is_mailed_once_with_its_document(database: asyncpg.Connection, stores: Stores, invoice: UUID) -> None:
    assert [await send(stores, invoice, STAND_IN) for _ in range(2)] == [True, False]
    assert await send(stores, invoice, STAND_IN, is_again=True)
    mails = await database.fetch("SELECT subject FROM mails")
    assert [row["subject"] for row in mails] == ["Invoice INV-000001 for September 2026: USD 2,501.00"] * 2
    sent = await database.fetchval("SELECT content FROM mail_attachments LIMIT 1")
    assert sent == await database.fetchval("SELECT content FROM invoice_documents")
    assert sent.startswith(b"%PDF-")


async def test_an_invoice_that_nobody_has_is_not_found(stores: Stores) -> None:
    with pytest.raises(ApiError, match="there is no invoice"):
        await pay(stores, new_id(), BankTransfer())
