"""An invoice for programs: JSON with everything that was frozen, CSV with its lines. From the statement only."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from billing.money import as_decimal
from billing.rating import Line
from billing.statement import Statement, content_hash
from control_plane.identity.public_id import public_id
from control_plane.invoices.reading import Summary

CSV = "text/csv"
_UNSAFE = ("=", "+", "-", "@", "\t", "\r")


def invoice_json(statement: Statement, summary: Summary) -> Mapping[str, Any]:
    """The invoice with its lines, and where it stands."""
    return {
        **summary_json(summary),
        "content_sha256": None if statement.number is None else content_hash(statement).hex(),
        "seller": statement.seller,
        "buyer": statement.buyer,
        "prices": statement.prices,
        "lines": [line_json(line) for line in statement.lines],
    }


def summary_json(invoice: Summary) -> dict[str, Any]:
    """An invoice as lists show it."""
    return {
        "id": public_id("inv", invoice.id),
        "number": invoice.number,
        "customer": public_id("cus", invoice.customer_id),
        "company_name": invoice.company_name,
        "month": f"{invoice.month:%Y-%m}",
        "state": invoice.state.value,
        "currency": invoice.currency,
        "total_cents": invoice.total_cents,
        "paid_cents": invoice.paid_cents,
        "credited_cents": invoice.credited_cents,
        "open_cents": invoice.open_cents,
        "finalized_at": invoice.finalized_at,
        "due_on": None if invoice.due_on is None else invoice.due_on.isoformat(),
        "paid_at": invoice.paid_at,
        "voided_at": invoice.voided_at,
        "uncollectible_at": invoice.uncollectible_at,
    }


def line_json(line: Line) -> dict[str, Any]:
    """One line; exact prices as text."""
    return {
        "kind": line.kind.value,
        "description": line.description,
        "service_month": f"{line.service_month:%Y-%m}",
        "starts_at": line.starts_at,
        "ends_at": line.ends_at,
        "tier": line.tier,
        "price_version": line.price_version,
        "is_late": line.is_late,
        "quantity": line.quantity,
        "unit_cents": None if line.unit_cents is None else f"{line.unit_cents.normalize():f}",
        "amount_cents": line.amount_cents,
    }


def invoice_csv(statement: Statement) -> str:
    """One row a line, amounts in the currency's major unit. Text that a spreadsheet would run as a formula is quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    head = (
        "invoice",
        "customer",
        "company_name",
        "month",
        "currency",
        "kind",
        "description",
        "service_month",
        "starts_at",
        "ends_at",
    )
    writer.writerow((*head, "is_late", "quantity", "unit_price", "amount"))
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
        line.is_late,
        "" if line.quantity is None else line.quantity,
        "" if line.unit_cents is None else f"{as_decimal(line.unit_cents, line.currency).normalize():f}",
        as_decimal(line.amount_cents, line.currency),
    )


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_UNSAFE) else text
