"""What can be done with a final invoice: pay it, void it, give it up, take some of it back. One transaction each, with the books.

The invoice's row is locked first, so two of them cannot cross. The database refuses whatever the life cycle does not allow; what
it says is told as invoice_state. Every change is in the audit log.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from billing import ledger
from billing.life_cycle import NEXT, State
from billing.money import as_text
from control_plane.audit.record import Change, record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id, public_id
from control_plane.invoices.finalize import Booking, book, booked, moved
from control_plane.invoices.payments import Demand, FromCredit, Payments, Receipt, Told
from control_plane.invoices.reading import Summary, Wanted, read_summaries, read_summary
from control_plane.keys.fields import clean_name
from control_plane.keys.verbs import Stores, no_such

MAX_REASON, MAX_REFERENCE = 500, 200
_FIRST_EVER = datetime(2000, 1, 1, tzinfo=UTC)  # no money came before

_BY_NUMBER = text("SELECT id FROM invoices WHERE number = :number")
_KNOWN_PAYMENT = text("SELECT invoice_id, amount_cents FROM payments WHERE method = :method AND reference = :reference")
_PAYMENT = text("""
    INSERT INTO payments (id, invoice_id, customer_id, method, reference, amount_cents, currency, received_at, recorded_by)
    VALUES (:id, :invoice_id, :customer_id, :method, :reference, :amount_cents, :currency, :received_at, :recorded_by)
""")
_CREDIT = text("""
    SELECT COALESCE(-sum(amount_cents), 0)::bigint FROM ledger_entries
    WHERE customer_id = :customer_id AND account = 'customer_credit' AND currency = :currency
""")
_LOCK_CUSTOMER = text("SELECT 1 FROM customer_accounts WHERE id = :id FOR NO KEY UPDATE")
_MOVE = {
    State.PAID: text("UPDATE invoices SET state = 'paid', paid_at = :at WHERE id = :id"),
    State.VOID: text("UPDATE invoices SET state = 'void', voided_at = :at WHERE id = :id"),
    State.UNCOLLECTIBLE: text("UPDATE invoices SET state = 'uncollectible', uncollectible_at = :at WHERE id = :id"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """An invoice after a payment, and whether the payment was known already."""

    invoice: Summary
    is_new: bool


async def list_invoices(engine: AsyncEngine, wanted: Wanted, *, limit: int) -> Sequence[Summary]:
    """Newest first."""
    with database_errors():
        async with engine.connect() as connection:
            return await read_summaries(connection, wanted, limit=limit)


async def find_invoice(engine: AsyncEngine, name: str) -> UUID:
    """The invoice with that number or id. Raises ApiError not_found."""
    with database_errors():
        async with engine.connect() as connection:
            found: UUID | None = await connection.scalar(_BY_NUMBER, {"number": name})
    if found is None:
        raise no_such("invoice", name[:100])
    return found


async def read_one(engine: AsyncEngine, invoice_id: UUID) -> Summary:
    """The invoice. Raises ApiError not_found."""
    with database_errors():
        async with engine.connect() as connection:
            return await _read(connection, invoice_id)


async def pay(stores: Stores, invoice_id: UUID, payments: Payments) -> Paid:
    """Collects what is open, or a part of it; paid in full, the invoice is paid. A payment that is known changes nothing."""
    async with locked(stores.engine, invoice_id) as (connection, invoice):
        return await _pay(connection, stores, invoice, payments)


async def pay_from_credit(stores: Stores, invoice_id: UUID) -> Paid:
    """Uses the customer's credit for what is open, as far as it goes."""
    async with locked(stores.engine, invoice_id) as (connection, invoice):
        await connection.execute(_LOCK_CUSTOMER, {"id": invoice.customer_id})  # or two invoices would use the same credit
        available = await credit_cents(connection, invoice.customer_id, invoice.currency)
        if available <= 0:
            raise refused(invoice, "the customer has no credit")
        return await _pay(connection, stores, invoice, FromCredit(available_cents=available))


async def void(stores: Stores, invoice_id: UUID, reason: str) -> Summary:
    """As if it had never been sent; its usage stays settled and is not billed again."""
    async with locked(stores.engine, invoice_id) as (connection, invoice):
        if State.VOID not in NEXT[invoice.state] or invoice.paid_cents:
            raise refused(invoice, "what was paid is corrected by a credit note" if invoice.paid_cents else None)
        entries = ledger.void(await booked(connection, invoice_id))
        await book(connection, _about(invoice, "void"), entries)
        return await _move(connection, stores, invoice, State.VOID, _reason(reason))


async def give_up(stores: Stores, invoice_id: UUID, reason: str) -> Summary:
    """Uncollectible: what is open is no longer expected. It may still be paid."""
    async with locked(stores.engine, invoice_id) as (connection, invoice):
        if State.UNCOLLECTIBLE not in NEXT[invoice.state]:
            raise refused(invoice)
        await book(connection, _about(invoice, "uncollectible"), ledger.uncollectible(invoice.open_cents))
        return await _move(connection, stores, invoice, State.UNCOLLECTIBLE, _reason(reason))


async def credit_cents(connection: AsyncConnection, customer_id: UUID, currency: str) -> int:
    """What we owe the customer, from credit notes on what was paid."""
    cents: int = await connection.scalar(_CREDIT, {"customer_id": customer_id, "currency": currency})
    return cents


async def settle(connection: AsyncConnection, stores: Stores, invoice_id: UUID) -> Summary:
    """The invoice, paid now if nothing is open any more."""
    invoice = await _read(connection, invoice_id)
    if invoice.is_open and invoice.open_cents == 0:
        return await _move(connection, stores, invoice, State.PAID, None)
    return invoice


def refused(invoice: Summary, why: str | None = None) -> ApiError:
    """For what the invoice's state does not allow."""
    name = invoice.number or public_id("inv", invoice.id)
    return ApiError("invoice_state", f"Invoice {name} is {invoice.state.value}{f': {why}' if why else ''}.", param="invoice")


@asynccontextmanager
async def locked(engine: AsyncEngine, invoice_id: UUID) -> AsyncIterator[tuple[AsyncConnection, Summary]]:
    """The invoice, locked until the end of the transaction. What the database refuses is told as invoice_state."""
    with database_errors():
        async with engine.begin() as connection:
            invoice = await _read(connection, invoice_id, is_locked=True)
            try:
                yield connection, invoice
            except IntegrityError as error:
                raise refused(invoice) from error


async def _pay(connection: AsyncConnection, stores: Stores, invoice: Summary, payments: Payments) -> Paid:
    demand = _demand(invoice)
    told = payments.told(demand) if demand.number else None
    if told is not None and await _is_booked(connection, invoice, payments.method, told):
        return Paid(invoice=invoice, is_new=False)
    if not invoice.is_open:
        raise refused(invoice)
    receipt = await payments.collect(demand)
    if not _FIRST_EVER <= receipt.received_at <= datetime.now(UTC) + timedelta(days=1):
        raise ApiError("invalid_field", "received_at must be the instant at which the money came.", param="received_at")
    reference = _reference(receipt.reference)
    if await _is_booked(connection, invoice, payments.method, Told(reference=reference)):
        return Paid(invoice=invoice, is_new=False)
    if not 0 < receipt.amount_cents <= invoice.open_cents:
        raise refused(invoice, f"{as_text(invoice.open_cents, invoice.currency)} is open")
    return await _book_payment(connection, stores, invoice, payments, replace(receipt, reference=reference))


async def _is_booked(connection: AsyncConnection, invoice: Summary, method: str, told: Told) -> bool:
    """Whether that payment is this invoice's already. Raises ApiError where it is another's, or of another amount."""
    reference = _reference(told.reference)
    key = {"method": method, "reference": reference}
    known = (await connection.execute(_KNOWN_PAYMENT, key)).one_or_none()
    if known is None:
        return False
    if known.invoice_id != invoice.id:
        raise ApiError("invoice_state", f"The payment {reference} is booked for another invoice.", param="reference")
    if told.amount_cents not in {None, known.amount_cents}:
        booked_already = as_text(known.amount_cents, invoice.currency)
        message = f"The payment {reference} is booked with {booked_already}; another one needs a reference of its own."
        raise ApiError("invoice_state", message, param="reference")
    return True


async def _book_payment(
    connection: AsyncConnection, stores: Stores, invoice: Summary, payments: Payments, receipt: Receipt
) -> Paid:
    key = {"method": payments.method, "reference": receipt.reference}
    payment_id = new_id()
    payment = {
        "id": payment_id,
        "invoice_id": invoice.id,
        "customer_id": invoice.customer_id,
        "amount_cents": receipt.amount_cents,
        "currency": invoice.currency,
        "received_at": receipt.received_at,
        "recorded_by": stores.by.actor,
    }
    await connection.execute(_PAYMENT, payment | key)
    is_from_credit = isinstance(payments, FromCredit)
    entries = ledger.payment(receipt.amount_cents, state=invoice.state, is_from_credit=is_from_credit)
    await book(connection, _about(invoice, "payment", payment_id=payment_id), entries)
    await log(connection, stores, invoice, "pay", {"amount_cents": receipt.amount_cents, **key})
    return Paid(invoice=await settle(connection, stores, invoice.id), is_new=True)


async def _move(connection: AsyncConnection, stores: Stores, invoice: Summary, to: State, reason: str | None) -> Summary:
    await connection.execute(_MOVE[to], {"id": invoice.id, "at": datetime.now(UTC)})
    await moved(connection, invoice.id, (invoice.state, to), stores.by, reason)
    await log(connection, stores, invoice, to.value, {"state": to.value, "reason": reason})
    return await _read(connection, invoice.id)


async def log(connection: AsyncConnection, stores: Stores, invoice: Summary, what: str, after: Mapping[str, object]) -> None:
    """One line of the audit log about an invoice."""
    change = Change(
        action=f"invoice.{what}",
        target=public_id("inv", invoice.id),
        customer_id=invoice.customer_id,
        before={"state": invoice.state.value},
        after=after,
    )
    await record(connection, stores.by, change)


async def _read(connection: AsyncConnection, invoice_id: UUID, *, is_locked: bool = False) -> Summary:
    invoice = await read_summary(connection, invoice_id, is_locked=is_locked)
    if invoice is None:
        raise no_such("invoice", public_id("inv", invoice_id))
    return invoice


def _demand(invoice: Summary) -> Demand:
    return Demand(
        invoice_id=invoice.id,
        customer_id=invoice.customer_id,
        number=invoice.number or "",
        amount_cents=invoice.open_cents,
        currency=invoice.currency,
    )


def _about(invoice: Summary, kind: str, *, payment_id: UUID | None = None) -> Booking:
    return Booking(
        kind=kind, customer_id=invoice.customer_id, invoice_id=invoice.id, currency=invoice.currency, payment_id=payment_id
    )


def _reference(text: str) -> str:
    return clean_name(text, field="reference", max_length=MAX_REFERENCE)


def _reason(text: str) -> str:
    return clean_name(text, field="reason", max_length=MAX_REASON)
