"""An invoice for programs: the shapes that commands and addresses send as JSON, and CSV of its lines. From the statement only."""

import csv
import io
from datetime import date, datetime
from typing import Any

import msgspec

from billing.life_cycle import State
from billing.money import as_decimal
from billing.rating import Line, LineKind
from billing.statement import Statement, content_hash
from control_plane.identity.public_id import public_id
from control_plane.invoices.reading import Summary

CSV = "text/csv"
_UNSAFE = ("=", "+", "-", "@", "\t", "\r")
_HEAD = (
    *("invoice", "customer", "company_name", "month", "currency", "kind", "description", "service_month", "starts_at", "ends_at"),
    *("is_late", "quantity", "unit_price", "amount"),
)


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice as lists show it. Amounts are in the currency's minor unit."""

    id: str
    number: str | None
    customer: str
    company_name: str
    month: str
    state: State
    currency: str
    total_cents: int
    paid_cents: int
    credited_cents: int
    open_cents: int
    finalized_at: datetime | None
    due_on: date | None
    paid_at: datetime | None
    voided_at: datetime | None
    uncollectible_at: datetime | None


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line; the exact unit price is text. `is_late`: used in a month that was invoiced before."""

    kind: LineKind
    description: str
    currency: str
    service_month: str
    starts_at: datetime
    ends_at: datetime
    tier: str | None
    price_version: str | None
    is_late: bool
    quantity: int | None
    unit_cents: str | None
    amount_cents: int


class InvoiceReport(msgspec.Struct, frozen=True, kw_only=True):
    """The invoice with everything that was frozen when it was finalized."""

    invoice: Invoice
    content_sha256: str | None
    seller: dict[str, Any]
    buyer: dict[str, Any]
    prices: tuple[dict[str, Any], ...]
    lines: tuple[InvoiceLine, ...]


def report_of(statement: Statement, summary: Summary) -> InvoiceReport:
    """The invoice with its lines, and where it stands."""
    return InvoiceReport(
        invoice=invoice_of(summary),
        content_sha256=None if statement.number is None else content_hash(statement).hex(),
        seller=dict(statement.seller),
        buyer=dict(statement.buyer),
        prices=tuple(map(dict, statement.prices)),
        lines=tuple(map(line_of, statement.lines)),
    )


def invoice_of(summary: Summary) -> Invoice:
    """As lists show it."""
    same = {name: getattr(summary, name) for name in Invoice.__struct_fields__ if name not in {"id", "customer", "month"}}
    return Invoice(
        id=public_id("inv", summary.id),
        customer=public_id("cus", summary.customer_id),
        month=f"{summary.month:%Y-%m}",
        **same,
    )


def line_of(line: Line) -> InvoiceLine:
    """One line."""
    same = {name: getattr(line, name) for name in InvoiceLine.__struct_fields__ if name not in {"service_month", "unit_cents"}}
    unit = None if line.unit_cents is None else f"{line.unit_cents.normalize():f}"
    return InvoiceLine(service_month=f"{line.service_month:%Y-%m}", unit_cents=unit, **same)


def invoice_csv(statement: Statement) -> str:
    """One row a line, amounts in the currency's major unit. Text that a spreadsheet would run as a formula is quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_HEAD)
    own = (
        statement.number or "draft",
        statement.buyer["customer"],
        _safe(statement.buyer["company_name"]),
        f"{statement.month:%Y-%m}",
        statement.currency,
    )
    for line in statement.lines:
        writer.writerow((*own, *_cells(line)))
    return out.getvalue()


def _cells(line: Line) -> tuple[object, ...]:
    return (
        line.kind.value,
        line.description,
        f"{line.service_month:%Y-%m}",
        line.starts_at.isoformat(),
        line.ends_at.isoformat(),
        "yes" if line.is_late else "no",
        "" if line.quantity is None else line.quantity,
        "" if line.unit_cents is None else f"{as_decimal(line.unit_cents, line.currency).normalize():f}",
        as_decimal(line.amount_cents, line.currency),
    )


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_UNSAFE) else text
