"""Reads an invoice back as the value that was written, and what was done about it since. Called by every verb and document."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.life_cycle import OPEN, State
from billing.rating import Line, LineKind
from billing.statement import Statement

_COLUMNS = """
    i.*, a.company_name,
    (SELECT COALESCE(sum(amount_cents), 0)::bigint FROM payments p WHERE p.invoice_id = i.id) AS paid_cents,
    (SELECT COALESCE(sum(amount_cents), 0)::bigint FROM credit_notes c WHERE c.invoice_id = i.id) AS credited_cents
"""
_ONE = f"SELECT {_COLUMNS} FROM invoices i JOIN customer_accounts a ON a.id = i.customer_id WHERE i.id = :id"  # noqa: S608
_LIST = f"""
    SELECT {_COLUMNS} FROM invoices i JOIN customer_accounts a ON a.id = i.customer_id
    WHERE (CAST(:customer_id AS uuid) IS NULL OR i.customer_id = :customer_id)
      AND (CAST(:month AS date) IS NULL OR i.month = :month) AND (CAST(:state AS text) IS NULL OR i.state = :state)
      AND (CAST(:before AS uuid) IS NULL OR i.id < :before) AND (:with_drafts OR i.state <> 'draft')
    ORDER BY i.id DESC LIMIT :limit
"""  # noqa: S608 -- text of this module
_LINES = text("SELECT * FROM invoice_lines WHERE invoice_id = :id ORDER BY position")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An invoice as lists show it."""

    id: UUID
    customer_id: UUID
    company_name: str
    month: date
    currency: str
    state: State
    number: str | None
    total_cents: int
    paid_cents: int
    credited_cents: int
    finalized_at: datetime | None
    due_on: date | None
    paid_at: datetime | None
    voided_at: datetime | None
    uncollectible_at: datetime | None

    @property
    def open_cents(self) -> int:
        """What is still asked for."""
        return max(0, self.total_cents - self.paid_cents - self.credited_cents) if self.is_open else 0

    @property
    def is_open(self) -> bool:
        """Whether something may still be paid."""
        return self.state in OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which invoices; None asks nothing. `before` is the last id of the page before."""

    customer_id: UUID | None = None
    month: date | None = None
    state: State | None = None
    before: UUID | None = None
    with_drafts: bool = True


async def read_summaries(connection: AsyncConnection, wanted: Wanted, *, limit: int) -> Sequence[Summary]:
    """Newest first."""
    parameters = {
        "customer_id": wanted.customer_id,
        "month": wanted.month,
        "state": None if wanted.state is None else wanted.state.value,
        "before": wanted.before,
        "with_drafts": wanted.with_drafts,
        "limit": limit,
    }
    return [_summary(row) for row in await connection.execute(text(_LIST), parameters)]


async def read_summary(connection: AsyncConnection, invoice_id: UUID, *, is_locked: bool = False) -> Summary | None:
    """One invoice; locked against everybody else who wants to move it."""
    locked = " FOR NO KEY UPDATE OF i" if is_locked else ""
    row = (await connection.execute(text(_ONE + locked), {"id": invoice_id})).one_or_none()
    return None if row is None else _summary(row)


async def read_statement(connection: AsyncConnection, invoice_id: UUID) -> Statement:
    """The invoice as it was written. Raises NoResultFound."""
    row = (await connection.execute(text("SELECT * FROM invoices WHERE id = :id"), {"id": invoice_id})).one()
    lines = [_line(line, row.currency) for line in await connection.execute(_LINES, {"id": invoice_id})]
    return Statement(
        id=row.id,
        customer_id=row.customer_id,
        month=row.month,
        currency=row.currency,
        legal_entity=row.legal_entity,
        number=row.number,
        total_cents=row.total_cents,
        finalized_at=row.finalized_at,
        due_on=row.due_on,
        seller=row.seller,
        buyer=row.buyer,
        prices=row.prices,
        lines=lines,
    )


def _summary(row: Row[Any]) -> Summary:
    values = {name: getattr(row, name) for name in Summary.__slots__}
    return Summary(**values | {"state": State(row.state)})


def _line(row: Row[Any], currency: str) -> Line:
    columns = {name: getattr(row, name) for name in Line.__slots__ if name not in {"currency", "kind"}}
    return Line(kind=LineKind(row.kind), currency=currency, **columns)
