"""Rates the months that are not closed as they stand now, so that SQL can show them: the same functions that write invoices.

Run by the worker and before each report. One transaction replaces everything, so a reader sees one moment. Fees of the running
month count in full; the forecast adds, to the plan in force, the rest of the month at the pace of the month so far.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from billing import ledger
from billing.ledger import Account
from billing.rating import METERED, Line, LineKind, Metered, rate
from billing.segments import Segment, first_of_month, midnight, next_month, segments
from billing.terms import Subscription
from billing.tiers import price_versions
from control_plane.db import database_errors
from control_plane.invoices.close import keep_prices
from control_plane.invoices.metered import read_subscriptions, read_usage

_ONE_AT_A_TIME = text("LOCK TABLE revenue_refreshes IN SHARE ROW EXCLUSIVE MODE")
_FIRST_OPEN = text("""
    SELECT COALESCE((SELECT month_after(max(month)) FROM closed_months),
                    (SELECT date_trunc('month', min(effective_at) AT TIME ZONE 'UTC')::date FROM subscriptions))
""")
_CUSTOMERS = text("""
    SELECT a.id FROM customer_accounts a WHERE EXISTS (SELECT FROM subscriptions s WHERE s.customer_id = a.id)
    ORDER BY a.id
""")
_LINE = text("""
    INSERT INTO revenue_open_lines (month, customer_id, position, currency, kind, tier, fees_cents, usage_cents)
    VALUES (:month, :customer_id, :position, :currency, :kind, :tier, :fees_cents, :usage_cents)
""")
_FORECAST = text("""
    INSERT INTO revenue_forecasts (month, customer_id, currency, forecast_cents)
    VALUES (:month, :customer_id, :currency, :forecast_cents)
""")
_REFRESHED = text("""
    INSERT INTO revenue_refreshes (refreshed_at) VALUES (:at)
    ON CONFLICT (is_only) DO UPDATE SET refreshed_at = excluded.refreshed_at
""")
_SHORTEST = timedelta(hours=1)  # of a month that has only begun; less says nothing about the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLine:
    """One line as SQL keeps it: what it asks for, as fees and as usage."""

    currency: str
    kind: str
    tier: str | None
    fees_cents: int
    usage_cents: int


async def refresh(engine: AsyncEngine, *, now: datetime | None = None) -> int:
    """Replaces what is shown of the open months. Returns how many lines there are."""
    now = now or datetime.now(UTC)
    count = 0
    with database_errors():
        async with engine.begin() as connection:
            await connection.execute(_ONE_AT_A_TIME)
            for table in ("revenue_open_lines", "revenue_forecasts"):
                await connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 -- two names
            await keep_prices(connection)
            months = await _open_months(connection, now)
            for customer_id in (await connection.scalars(_CUSTOMERS)).all():
                count += await _refresh_customer(connection, customer_id, months, now)
            await connection.execute(_REFRESHED, {"at": now})
    return count


def open_lines(lines: Sequence[Line]) -> tuple[OpenLine, ...]:
    """Lines of one invoice; its discount is shared between fees and usage as the ledger will."""
    booked = ledger.finalized(lines)
    fees, usage = (-booked.get(account, 0) for account in (Account.REVENUE_FEES, Account.REVENUE_USAGE))
    rest_fees = fees - sum(line.amount_cents for line in lines if line.kind in {LineKind.FEE, LineKind.COMMITMENT})
    rest_usage = usage - sum(line.amount_cents for line in lines if line.kind in METERED)
    made = []
    for line in lines:
        if line.kind is LineKind.DISCOUNT:
            of = (rest_fees, rest_usage)
            rest_fees = rest_usage = 0  # the first line of a discount carries what all of them are
        else:
            of = (0, line.amount_cents) if line.kind in METERED else (line.amount_cents, 0)
        made.append(OpenLine(currency=line.currency, kind=line.kind.value, tier=line.tier, fees_cents=of[0], usage_cents=of[1]))
    return tuple(made)


def expected(month: date, history: Sequence[Subscription], metered: Sequence[Metered], now: datetime) -> tuple[Line, ...]:
    """The lines of a running month as they will be if it goes on as it went so far."""
    parts = segments(history, price_versions(), month)
    current = next((part for part in parts if part.starts_at <= now < part.ends_at), None)
    if current is None:
        return rate(month, parts, metered)
    elapsed = max(_SHORTEST, now - midnight(month))
    used = sum(one.quantity for one in metered if one.segment.month == month)
    more = max(0, round(used * (midnight(next_month(month)) - now) / elapsed))
    return rate(month, parts, tuple(_with_more(metered, current, more)))


async def _open_months(connection: AsyncConnection, now: datetime) -> list[date]:
    first: date | None = await connection.scalar(_FIRST_OPEN)
    months, running = [], first_of_month(now.date())
    while first is not None and first <= running:
        months.append(first)
        first = next_month(first)
    return months


async def _refresh_customer(connection: AsyncConnection, customer_id: UUID, months: Sequence[date], now: datetime) -> int:
    """What came late belongs to the first open month only: the close of that month will take it."""
    history = await read_subscriptions(connection, customer_id)
    count = 0
    for month in months:
        usage = await read_usage(connection, customer_id, history, month)
        metered = [one for one in usage.metered if one.segment.month == month or month == months[0]]
        rows = _rows(rate(month, segments(history, price_versions(), month), metered))
        key = {"month": month, "customer_id": customer_id}
        if rows:
            await connection.execute(_LINE, [{**key, "position": n, **_values(row)} for n, row in enumerate(rows, 1)])
            count += len(rows)
        if month == months[-1]:
            await _write_forecast(connection, key, expected(month, history, metered, now))
    return count


async def _write_forecast(connection: AsyncConnection, key: dict[str, object], lines: Sequence[Line]) -> None:
    for currency in sorted({line.currency for line in lines}):
        cents = sum(line.amount_cents for line in lines if line.currency == currency)
        if cents:
            await connection.execute(_FORECAST, {**key, "currency": currency, "forecast_cents": cents})


def _rows(lines: Sequence[Line]) -> list[OpenLine]:
    currencies = sorted({line.currency for line in lines})
    rows = [row for currency in currencies for row in open_lines([line for line in lines if line.currency == currency])]
    return [row for row in rows if row.fees_cents or row.usage_cents]


def _values(row: OpenLine) -> dict[str, object]:
    names = ("currency", "kind", "tier", "fees_cents", "usage_cents")
    return {name: getattr(row, name) for name in names}


def _with_more(metered: Sequence[Metered], current: Segment, more: int) -> Iterator[Metered]:
    is_there = False
    for one in metered:
        is_there = is_there or one.segment == current
        yield replace(one, quantity=one.quantity + more) if one.segment == current else one
    if more and not is_there:
        yield Metered(segment=current, quantity=more)
