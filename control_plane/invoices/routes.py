"""`GET /v1/billing/current`, `/v1/billing/invoices`, `/v1/billing/invoices/{id}[.pdf|.csv|.json]`: what a customer owes and why.

With the customer's own key; another customer's invoice is as if it were not there, and so is a draft. Counts against no limit.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response

from billing.forecast import forecast
from billing.life_cycle import State
from billing.rating import Line, rate
from billing.segments import first_of_month, segments
from billing.tiers import price_versions
from control_plane.db import DatabaseAwayError, database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import parse_public_id, public_id
from control_plane.invoices.documents import PDF, document
from control_plane.invoices.exports import CSV, invoice_csv, invoice_json, line_json, summary_json
from control_plane.invoices.metered import read_subscriptions, read_usage
from control_plane.invoices.reading import Summary, Wanted, read_statement, read_summaries, read_summary
from control_plane.invoices.seller import Seller
from control_plane.policies.routes import Authenticate

CURRENT_PATH = "/v1/billing/current"
INVOICES_PATH = "/v1/billing/invoices"
INVOICE_PATH = "/v1/billing/invoices/{invoice}"
_PAGE, _LARGEST_PAGE = 20, 100
_KINDS = ("pdf", "csv", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingDoors:
    """The endpoints."""

    engine: AsyncEngine
    seller: Seller
    authenticate: Authenticate

    async def current(self, request: Request) -> Response:
        """The month so far: what is used, what it costs, what it will come to."""
        principal = await self.authenticate(request.headers.get("authorization"))
        now = datetime.now(UTC)
        month = first_of_month(now.date())
        with _database():
            async with self.engine.connect() as connection:
                history = await read_subscriptions(connection, principal.customer_id)
                usage = await read_usage(connection, principal.customer_id, history, month)
        parts = segments(history, price_versions(), month)
        lines = rate(month, parts, usage.metered)
        expected = rate(month, parts, forecast(parts, usage.metered, now))
        terms = parts[-1].terms if parts else None
        return _json(
            {
                "month": f"{month:%Y-%m}",
                "as_of": now,
                "tier": principal.tier.value,
                "currency": None if terms is None else terms.currency,
                "requests": sum(one.quantity for one in usage.metered if one.segment.month == month),
                "committed_requests": None if terms is None else terms.committed_requests,
                "cost_so_far_cents": _totals(lines),
                "forecast_cents": _totals(expected),
                "lines": [line_json(line) for line in lines],
            }
        )

    async def list_invoices(self, request: Request) -> Response:
        """Newest first, a page at a time."""
        principal = await self.authenticate(request.headers.get("authorization"))
        limit, before = _limit(request.query_params.get("limit")), _before(request.query_params.get("before"))
        wanted = Wanted(customer_id=principal.customer_id, before=before, with_drafts=False)
        with _database():
            async with self.engine.connect() as connection:
                found = await read_summaries(connection, wanted, limit=limit + 1)
        page = found[:limit]
        more = public_id("inv", page[-1].id) if len(found) > limit else None
        return _json({"invoices": [_own(one) for one in page], "next_before": more})

    async def show_invoice(self, request: Request) -> Response:
        """One invoice as JSON, CSV or PDF, by how the address ends."""
        principal = await self.authenticate(request.headers.get("authorization"))
        name, _, kind = request.path_params["invoice"].partition(".")
        invoice_id = parse_public_id("inv", name)
        if invoice_id is None or kind not in ("", *_KINDS):
            raise _nothing()
        with _database():
            async with self.engine.begin() as connection:
                summary = await read_summary(connection, invoice_id)
                if summary is None or summary.customer_id != principal.customer_id or summary.state is State.DRAFT:
                    raise _nothing()
                statement = await read_statement(connection, invoice_id)
                content = await document(connection, invoice_id, self.seller) if kind == "pdf" else b""
        if kind == "pdf":
            return _file(content, PDF, f"{summary.number}.pdf")
        if kind == "csv":
            return _file(invoice_csv(statement).encode(), CSV, f"{summary.number}.csv")
        return _json(invoice_json(statement, summary))


def _own(summary: Summary) -> dict[str, Any]:
    return summary_json(summary)


def _totals(lines: Sequence[Line]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for line in lines:
        sums[line.currency] = sums.get(line.currency, 0) + line.amount_cents
    return sums


def _limit(text: str | None) -> int:
    if text is None:
        return _PAGE
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LARGEST_PAGE):
        raise ApiError("invalid_field", f"limit must be a whole number from 1 to {_LARGEST_PAGE}.", param="limit")
    return int(text)


def _before(text: str | None) -> UUID | None:
    if text is None:
        return None
    before = parse_public_id("inv", text)
    if before is None:
        raise ApiError("invalid_field", "before must be the id of an invoice.", param="before")
    return before


def _nothing() -> ApiError:
    return ApiError("not_found", "There is no such invoice.", param="invoice")


@contextmanager
def _database() -> Iterator[None]:
    try:
        with database_errors():
            yield
    except DatabaseAwayError:
        raise ApiError("store_unavailable", "Invoices cannot be reached at present.", retry_after_ms=1000) from None


def _json(body: Mapping[str, Any]) -> Response:
    return Response(_ENCODER.encode(body), media_type="application/json")


def _file(content: bytes, media_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


_ENCODER = msgspec.json.Encoder(decimal_format="string")
