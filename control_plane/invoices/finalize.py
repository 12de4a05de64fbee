"""Makes a draft final: the next number of the legal entity, amounts frozen under a hash, the ledger booked. In one transaction.

The number is the last thing taken, and its row stays locked until the commit: whoever rolls back gives it back, so that there is
neither a gap nor a number twice, however many finalize at once and whatever is killed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from billing import ledger
from billing.ledger import Account, Entries
from billing.life_cycle import State
from billing.statement import content_hash
from control_plane.audit.record import By, Change, record
from control_plane.identity.public_id import new_id, public_id
from control_plane.invoices.reading import read_statement
from control_plane.invoices.seller import Seller

_NEXT_NUMBER = text("""
    INSERT INTO invoice_sequences AS kept (legal_entity, kind, last_number) VALUES (:legal_entity, :kind, 1)
    ON CONFLICT (legal_entity, kind) DO UPDATE SET last_number = kept.last_number + 1 RETURNING last_number
""")
_FINALIZE = text("""
    UPDATE invoices SET state = 'finalized', sequence_number = :sequence_number, number = :number, content_hash = :content_hash,
                        finalized_at = :finalized_at, due_on = :due_on WHERE id = :id
""")
_MOVED = text("""
    INSERT INTO invoice_transitions (invoice_id, from_state, to_state, by, reason)
    VALUES (:invoice_id, :from_state, :to_state, :by, :reason)
""")
_BOOK = text("""
    INSERT INTO ledger_entries (transaction_id, kind, account, amount_cents, currency, customer_id, invoice_id, credit_note_id,
                                payment_id)
    VALUES (:transaction_id, :kind, :account, :amount_cents, :currency, :customer_id, :invoice_id, :credit_note_id, :payment_id)
""")
_BOOKED = text("SELECT account, sum(amount_cents)::bigint AS cents FROM ledger_entries WHERE invoice_id = :id GROUP BY account")


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """What an event is about."""

    kind: str
    customer_id: UUID
    invoice_id: UUID
    currency: str
    credit_note_id: UUID | None = None
    payment_id: UUID | None = None


async def finalize(connection: AsyncConnection, invoice_id: UUID, seller: Seller, by: By) -> str:
    """The number that the invoice now has."""
    draft = await read_statement(connection, invoice_id)
    about = Booking(kind="finalized", customer_id=draft.customer_id, invoice_id=draft.id, currency=draft.currency)
    await book(connection, about, ledger.finalized(draft.lines))
    await moved(connection, invoice_id, (State.DRAFT, State.FINALIZED), by)
    sequence_number = await next_number(connection, draft.legal_entity, "invoice")
    now = datetime.now(UTC)
    number = f"{seller.number_prefix}{sequence_number:06d}"
    final = replace(draft, number=number, finalized_at=now, due_on=now.date() + timedelta(days=seller.payment_days))
    await connection.execute(
        _FINALIZE,
        {
            "id": final.id,
            "sequence_number": sequence_number,
            "number": final.number,
            "content_hash": content_hash(final),
            "finalized_at": final.finalized_at,
            "due_on": final.due_on,
        },
    )
    what = {"number": number, "total_cents": final.total_cents, "currency": final.currency, "month": final.month}
    target = public_id("inv", invoice_id)
    await record(connection, by, Change(action="invoice.finalize", target=target, customer_id=draft.customer_id, after=what))
    return number


async def next_number(connection: AsyncConnection, legal_entity: str, kind: str) -> int:
    """The next number; its row is locked until the caller's transaction ends."""
    number: int = await connection.scalar(_NEXT_NUMBER, {"legal_entity": legal_entity, "kind": kind})
    return number


async def moved(
    connection: AsyncConnection, invoice_id: UUID, states: tuple[State, State], by: By, reason: str | None = None
) -> None:
    """Writes down who moved the invoice from one state to another."""
    row = {"invoice_id": invoice_id, "from_state": states[0].value, "to_state": states[1].value, "by": by.actor, "reason": reason}
    await connection.execute(_MOVED, row)


async def book(connection: AsyncConnection, about: Booking, entries: Entries) -> None:
    """Writes the entries of one event; the database refuses the commit if they do not balance."""
    rows = [
        {
            "transaction_id": about_id,
            "kind": about.kind,
            "account": account.value,
            "amount_cents": cents,
            "currency": about.currency,
            "customer_id": about.customer_id,
            "invoice_id": about.invoice_id,
            "credit_note_id": about.credit_note_id,
            "payment_id": about.payment_id,
        }
        for about_id in (new_id(),)
        for account, cents in entries.items()
    ]
    if rows:
        await connection.execute(_BOOK, rows)


async def booked(connection: AsyncConnection, invoice_id: UUID) -> Mapping[Account, int]:
    """What the ledger says about an invoice."""
    return {Account(row.account): row.cents for row in await connection.execute(_BOOKED, {"id": invoice_id})}
