"""`GET /v1/billing/…`: what a customer owes and why, with their own key. Another's invoice is not there, nor is a draft."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.forecast import forecast
from billing.life_cycle import State
from billing.rating import Line, rate
from billing.segments import first_of_month, segments
from billing.statement import Statement
from billing.tiers import price_versions
from control_plane.db import database_errors
from control_plane.endpoints.endpoint import Call, Document, Endpoint
from control_plane.endpoints.pages import Page, PageQuery, before_of, page_of
from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.invoices.documents import PDF, kept_document
from control_plane.invoices.examples import CURRENT_EXAMPLE, INVOICE_EXAMPLE, REPORT_EXAMPLE
from control_plane.invoices.exports import CSV, Invoice, InvoiceLine, InvoiceReport, invoice_csv, invoice_of, line_of, report_of
from control_plane.invoices.metered import read_subscriptions, read_usage
from control_plane.invoices.reading import Summary, Wanted, read_statement, read_summaries, read_summary
from control_plane.keys.verbs import no_such

INVOICES = "/v1/billing/invoices"
THRESHOLDS = (50, 80, 100)

_CAP = text("SELECT spend_cap_cents FROM customer_accounts WHERE id = :id")


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the spend cap, and whether the month so far is at or above it."""

    percent: int
    is_reached: bool


class SpendCap(msgspec.Struct, frozen=True, kw_only=True):
    """What the month may cost at most; requests beyond it are refused with `spend_cap`."""

    cap_cents: int
    used_percent: float
    thresholds: tuple[Threshold, ...]


class CurrentMonth(msgspec.Struct, frozen=True, kw_only=True):
    """The month so far. Fees are those of the whole month; amounts by currency, in its minor unit."""

    month: str
    as_of: datetime
    tier: str
    requests: Annotated[int, Meta(description="Billable requests of this month that are recorded.")]
    cost_so_far_cents: Annotated[dict[str, int], Meta(description="What the invoice would ask for if nothing more was sent.")]
    forecast_cents: Annotated[dict[str, int], Meta(description="The same, if the month goes on as it has gone.")]
    spend_cap: SpendCap | None
    lines: tuple[InvoiceLine, ...]


async def show_current_month(by: Principal, call: Call) -> CurrentMonth:
    """From the roll-ups, so it lags by the seconds that recording takes."""
    now = datetime.now(UTC)
    month = first_of_month(now.date())
    with database_errors():
        async with call.stores.engine.connect() as connection:
            history = await read_subscriptions(connection, by.customer_id)
            usage = await read_usage(connection, by.customer_id, history, month)
            cap_cents = await connection.scalar(_CAP, {"id": by.customer_id})
    parts = segments(history, price_versions(), month)
    lines = rate(month, parts, usage.metered)
    return CurrentMonth(
        month=f"{month:%Y-%m}",
        as_of=now,
        tier=by.tier.value,
        requests=sum(one.quantity for one in usage.metered if one.segment.month == month),
        cost_so_far_cents=_totals(lines),
        forecast_cents=_totals(rate(month, parts, forecast(parts, usage.metered, now))),
        spend_cap=_spend_cap(cap_cents, _totals([line for line in lines if not line.is_late])),
        lines=tuple(map(line_of, lines)),
    )


async def list_own_invoices(by: Principal, call: Call, *, query: PageQuery) -> Page[Invoice]:
    """Newest first."""
    wanted = Wanted(customer_id=by.customer_id, before=before_of(query, "inv"), with_drafts=False)
    with database_errors():
        async with call.stores.engine.connect() as connection:
            found = await read_summaries(connection, wanted, limit=query.limit + 1)
    return page_of(found, query, "inv", invoice_of)


async def show_own_invoice(by: Principal, call: Call) -> InvoiceReport:
    """With its lines and the prices that held."""
    statement, summary = await _own(by, call)
    return report_of(statement, summary)


async def show_own_invoice_csv(by: Principal, call: Call) -> Document:
    """One row a line."""
    statement, summary = await _own(by, call)
    return Document(content=invoice_csv(statement).encode(), media_type=CSV, filename=f"{summary.number}.csv")


async def show_own_invoice_pdf(by: Principal, call: Call) -> Document:
    """The document as it was made when the month was closed."""
    _, summary = await _own(by, call)
    with database_errors():
        async with call.stores.engine.connect() as connection:
            content = await kept_document(connection, summary.id)
    if content is None:
        raise ApiError("store_unavailable", "The document is being made at this moment.", retry_after_ms=5000)
    return Document(content=content, media_type=PDF, filename=f"{summary.number}.pdf")


async def _own(by: Principal, call: Call) -> tuple[Statement, Summary]:
    invoice_id = call.id("invoice", "inv")
    with database_errors():
        async with call.stores.engine.connect() as connection:
            return await _read(connection, invoice_id, by, call.path["invoice"])


async def _read(connection: AsyncConnection, invoice_id: UUID, by: Principal, name: str) -> tuple[Statement, Summary]:
    summary = await read_summary(connection, invoice_id)
    if summary is None or summary.customer_id != by.customer_id or summary.state is State.DRAFT:
        raise no_such("invoice", repr(name)[:100])
    return await read_statement(connection, invoice_id), summary


def _spend_cap(cap_cents: int | None, totals: dict[str, int]) -> SpendCap | None:
    if cap_cents is None:
        return None
    spent = max(totals.values(), default=0)
    used = 100.0 if not cap_cents else 100 * spent / cap_cents
    reached = tuple(Threshold(percent=percent, is_reached=used >= percent) for percent in THRESHOLDS)
    return SpendCap(cap_cents=cap_cents, used_percent=round(used, 1), thresholds=reached)


def _totals(lines: Sequence[Line]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for line in lines:
        sums[line.currency] = sums.get(line.currency, 0) + line.amount_cents
    return sums


# The longer addresses first: the last one would take their endings for a part of the id.
OWN_BILLING_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/billing/current",
        name="show_current_month",
        summary="What this month costs so far, and what it will come to",
        serve=show_current_month,
        answer_example=CURRENT_EXAMPLE,
    ),
    Endpoint(
        method="GET",
        path=INVOICES,
        name="list_invoices",
        summary="Your invoices, newest first",
        serve=list_own_invoices,
        answer_example={"data": [INVOICE_EXAMPLE], "next_cursor": None},
    ),
    Endpoint(
        method="GET",
        path=f"{INVOICES}/{{invoice}}.pdf",
        name="show_invoice_pdf",
        summary="One invoice as PDF",
        serve=show_own_invoice_pdf,
        media_type=PDF,
    ),
    Endpoint(
        method="GET",
        path=f"{INVOICES}/{{invoice}}.csv",
        name="show_invoice_csv",
        summary="The lines of one invoice as CSV",
        serve=show_own_invoice_csv,
        media_type=CSV,
    ),
    Endpoint(
        method="GET",
        path=f"{INVOICES}/{{invoice}}",
        name="show_invoice",
        summary="One invoice with its lines and the prices that held",
        serve=show_own_invoice,
        answer_example=REPORT_EXAMPLE,
    ),
)
