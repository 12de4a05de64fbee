"""The views of docs/REVENUE.md as values: one month as a report shows it, beside the months before. Computes nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.db import database_errors

_T = TypeVar("_T")

MONTHS_BACK = 12

_MONTHS = text("""
    SELECT * FROM revenue_months WHERE month <= :month AND month > :month - make_interval(months => :back) ORDER BY month
""")
_SERVICE = text("""
    SELECT * FROM customer_months WHERE month <= :month AND month > :month - make_interval(months => :back) ORDER BY month
""")
_TIERS = text("SELECT * FROM revenue_by_tier WHERE month = :month ORDER BY revenue_cents DESC, tier")
_CUSTOMERS = text("""
    SELECT * FROM revenue_by_customer WHERE month = :month AND (revenue_cents <> 0 OR credited_cents <> 0)
    ORDER BY currency, revenue_cents DESC, company_name
""")
_MOVED = text("""
    SELECT * FROM customer_movements
    WHERE month = :month AND (movement IN ('new', 'returned', 'churned') OR mrr_movement <> 'none')
    ORDER BY mrr_end_cents - mrr_start_cents DESC, company_name
""")
_USAGE = text("""
    SELECT * FROM usage_by_customer WHERE month <= :month AND month > :month - make_interval(months => :back)
    ORDER BY customer_id, month
""")
_REFRESHED = text("SELECT refreshed_at FROM revenue_refreshes")


@dataclass(frozen=True, slots=True, kw_only=True)
class RevenueMonth:
    """Money of one month in one currency, in its cents."""

    month: date
    currency: str
    is_running: bool
    is_closed: bool
    revenue_cents: int
    fees_cents: int
    usage_cents: int
    credited_cents: int
    revenue_before_cents: int | None
    revenue_growth_pct: Decimal | None
    mrr_cents: int
    mrr_before_cents: int | None
    mrr_growth_pct: Decimal | None
    payers: int
    arpu_cents: int | None
    gpu_cents: int | None
    server_cents: int | None
    margin_cents: int | None
    margin_pct: Decimal | None
    forecast_cents: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerMonth:
    """Customers and calls of one month."""

    month: date
    active_at_start: int
    new: int
    returned: int
    churned: int
    active_at_end: int
    paying_at_start: int
    paying_lost: int
    paying_at_end: int
    calling: int
    churn_pct: Decimal | None
    paying_churn_pct: Decimal | None
    requests: int
    billable_requests: int
    requests_before: int | None
    requests_growth_pct: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRevenue:
    """What one tier brought."""

    currency: str
    tier: str
    revenue_cents: int
    customers: int
    share_pct: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerRevenue:
    """What one customer brought; `tier` is the one they have now."""

    currency: str
    customer_id: UUID
    company_name: str
    tier: str
    revenue_cents: int
    fees_cents: int
    usage_cents: int
    credited_cents: int
    share_pct: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """How one customer's plan changed within the month."""

    company_name: str
    tier: str
    currency: str
    movement: str
    mrr_movement: str
    mrr_start_cents: int
    mrr_end_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTrend:
    """Calls of one customer over the months, oldest first, 0 where there were none."""

    customer_id: UUID
    company_name: str
    tier: str
    calls: tuple[int, ...]
    growth_pct: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that the report of one month shows. Money never crosses currencies."""

    month: date
    months: Sequence[date]
    revenue: Mapping[str, Sequence[RevenueMonth]]  # by currency, the biggest of this month first
    service: Sequence[CustomerMonth]
    tiers: Sequence[TierRevenue]
    customers: Sequence[CustomerRevenue]
    movements: Sequence[Movement]
    usage: Sequence[UsageTrend]
    refreshed_at: datetime | None

    @property
    def now(self) -> CustomerMonth | None:
        """The month itself; None when there were no customers yet."""
        return next((month for month in self.service if month.month == self.month), None)

    def money(self, currency: str) -> RevenueMonth | None:
        """The month itself in that currency."""
        return next((month for month in self.revenue.get(currency, ()) if month.month == self.month), None)


async def read_figures(engine: AsyncEngine, month: date, *, back: int = MONTHS_BACK) -> Figures:
    """All of one moment. Raises DatabaseAwayError."""
    with database_errors():
        async with engine.connect() as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            key = {"month": month.replace(day=1), "back": back}
            one = {"month": key["month"]}
            service = [_made(CustomerMonth, row) for row in await connection.execute(_SERVICE, key)]
            months = [each.month for each in service]
            return Figures(
                month=month.replace(day=1),
                months=months,
                revenue=_by_currency([_made(RevenueMonth, row) for row in await connection.execute(_MONTHS, key)]),
                service=service,
                tiers=[_made(TierRevenue, row) for row in await connection.execute(_TIERS, one)],
                customers=[_made(CustomerRevenue, row) for row in await connection.execute(_CUSTOMERS, one)],
                movements=[_made(Movement, row) for row in await connection.execute(_MOVED, one)],
                usage=await _usage(connection, key, months),
                refreshed_at=await connection.scalar(_REFRESHED),
            )


def _by_currency(rows: Sequence[RevenueMonth]) -> dict[str, list[RevenueMonth]]:
    """Currencies in which nothing ever happened are left out; the one with the most revenue now comes first."""
    alive = [row for row in rows if row.currency]
    newest = {row.currency: row for row in alive}
    busy = {row.currency for row in alive if row.revenue_cents or row.mrr_cents or row.credited_cents or row.gpu_cents}
    order = sorted(busy, key=lambda currency: (-newest[currency].revenue_cents, -newest[currency].mrr_cents, currency))
    return {currency: [row for row in alive if row.currency == currency] for currency in order}


async def _usage(connection: AsyncConnection, key: Mapping[str, Any], months: Sequence[date]) -> list[UsageTrend]:
    places = {month: n for n, month in enumerate(months)}
    calls: dict[UUID, list[int]] = {}
    last: dict[UUID, Row[Any]] = {}
    for row in await connection.execute(_USAGE, key):
        if row.month in places:
            calls.setdefault(row.customer_id, [0] * len(months))[places[row.month]] = row.requests
            last[row.customer_id] = row
    trends = [
        UsageTrend(
            customer_id=customer,
            company_name=last[customer].company_name,
            tier=last[customer].tier,
            calls=tuple(counts),
            growth_pct=last[customer].growth_pct if last[customer].month == key["month"] else None,
        )
        for customer, counts in calls.items()
    ]
    return sorted(trends, key=lambda trend: (-trend.calls[-1], -sum(trend.calls), trend.company_name))


def _made(kind: type[_T], row: Row[Any]) -> _T:
    return kind(**{field.name: getattr(row, field.name) for field in fields(kind)})  # type: ignore[arg-type]  # a dataclass
