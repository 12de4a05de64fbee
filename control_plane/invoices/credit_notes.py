"""Takes back some or all of a final invoice: a document with a number of its own; the invoice itself stays as it is.

First from what is open, the rest to the customer's credit. Never more than the invoice asked for; the database holds that too.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from billing import ledger
from billing.life_cycle import State
from billing.money import as_text
from control_plane.identity.public_id import new_id
from control_plane.invoices.finalize import Booking, book, booked, next_number
from control_plane.invoices.json_text import as_json_text
from control_plane.invoices.pdf import Paper, paper_pdf, row
from control_plane.invoices.reading import Summary, read_statement
from control_plane.invoices.seller import Seller
from control_plane.invoices.verbs import MAX_REASON, locked, log, refused, settle
from control_plane.keys.fields import clean_name, positive
from control_plane.keys.verbs import Stores

_INSERT = text("""
    INSERT INTO credit_notes (id, invoice_id, customer_id, legal_entity, sequence_number, number, amount_cents, currency, reason,
                              seller, buyer, content_hash, created_by, created_at)
    VALUES (:id, :invoice_id, :customer_id, :legal_entity, :sequence_number, :number, :amount_cents, :currency, :reason,
            CAST(:seller AS jsonb), CAST(:buyer AS jsonb), :content_hash, :created_by, :created_at)
""")
_OF_INVOICE = text("SELECT * FROM credit_notes WHERE invoice_id = :id ORDER BY created_at, id")
_TAKING_BACK = frozenset({State.FINALIZED, State.PAID, State.UNCOLLECTIBLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNote:
    """One credit note."""

    id: UUID
    invoice_id: UUID
    number: str
    amount_cents: int
    currency: str
    reason: str
    created_by: str
    created_at: datetime


async def credit(stores: Stores, invoice_id: UUID, amount_cents: int | None, reason: str, seller: Seller) -> CreditNote:
    """Takes that much back; None: all that is left of the invoice."""
    reason = clean_name(reason, field="reason", max_length=MAX_REASON)
    positive(amount_cents, field="amount", at_most=2**62)
    async with locked(stores.engine, invoice_id) as (connection, invoice):
        left = invoice.total_cents - invoice.credited_cents
        cents = left if amount_cents is None else amount_cents
        if invoice.state not in _TAKING_BACK or not 0 < cents <= left:
            raise refused(invoice, f"{as_text(left, invoice.currency)} of it can be taken back")
        entries = ledger.credit_note(
            cents, open_cents=invoice.open_cents, state=invoice.state, booked=await booked(connection, invoice_id)
        )
        note = await _write(connection, stores, invoice, (cents, reason), seller)
        about = Booking(
            kind="credit_note",
            customer_id=invoice.customer_id,
            invoice_id=invoice_id,
            currency=invoice.currency,
            credit_note_id=note.id,
        )
        await book(connection, about, entries)
        await log(connection, stores, invoice, "credit", {"number": note.number, "amount_cents": cents, "reason": reason})
        await settle(connection, stores, invoice_id)
        return note


async def credit_notes(connection: AsyncConnection, invoice_id: UUID) -> list[CreditNote]:
    """Those of an invoice, oldest first."""
    return [_note(row) for row in await connection.execute(_OF_INVOICE, {"id": invoice_id})]


async def credit_note_pdf(connection: AsyncConnection, note: CreditNote, seller: Seller) -> bytes:
    """The document: the same bytes each time, as long as the seller looks the same."""
    statement = await read_statement(connection, note.invoice_id)
    amount = as_text(-note.amount_cents, note.currency)
    return paper_pdf(
        Paper(
            title="Credit note",
            seller=seller,
            kept_seller=dict(statement.seller),
            buyer=dict(statement.buyer),
            facts=[
                ("Credit note number", note.number),
                ("For invoice", statement.number or ""),
                ("Customer", statement.buyer["customer"]),
                ("Date", f"{note.created_at:%-d %B %Y}"),
            ],
            rows=[row(note.reason, ("", "", amount))],
            totals=[("Total", amount)],
            notes=[],
        )
    )


async def _write(
    connection: AsyncConnection, stores: Stores, invoice: Summary, what: tuple[int, str], seller: Seller
) -> CreditNote:
    statement = await read_statement(connection, invoice.id)
    sequence_number = await next_number(connection, statement.legal_entity, "credit_note")
    note = CreditNote(
        id=new_id(),
        invoice_id=invoice.id,
        number=f"{seller.credit_note_prefix}{sequence_number:06d}",
        amount_cents=what[0],
        currency=invoice.currency,
        reason=what[1],
        created_by=stores.by.actor,
        created_at=datetime.now(UTC),
    )
    values = {
        **asdict(note),
        "customer_id": invoice.customer_id,
        "legal_entity": statement.legal_entity,
        "sequence_number": sequence_number,
        "seller": as_json_text(statement.seller),
        "buyer": as_json_text(statement.buyer),
    }
    await connection.execute(_INSERT, {**values, "content_hash": hashlib.sha256(as_json_text(values).encode()).digest()})
    return note


def _note(row: Row[Any]) -> CreditNote:
    return CreditNote(**{name: getattr(row, name) for name in CreditNote.__slots__})
