"""A year of a business like the one in the guide that the product was asked for with: values, no database."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from control_plane.revenue.figures import (
    CustomerMonth,
    CustomerRevenue,
    Figures,
    Movement,
    RevenueMonth,
    TierRevenue,
    UsageTrend,
)

MONTHS = [date(2025 + (11 + n) // 12, (11 + n) % 12 + 1, 1) for n in range(12)]
NOVEMBER = MONTHS[-1]

_REVENUE = (11_900, 14_200, 17_050, 20_400, 22_100, 25_800, 28_300, 31_900, 34_700, 38_450, 40_893, 45_800)
_CALLS = (310, 420, 515, 640, 760, 905, 1_080, 1_260, 1_440, 1_660, 1_826, 2_100)


def a_year(*, is_running: bool = True, has_costs: bool = True) -> Figures:
    """$45,800 (+12 %), 23 customers (+3), 2.1M calls (+15 %); Acme leads."""
    revenue = [_month(n, is_running=is_running and n == 11, has_costs=has_costs) for n in range(12)]
    return Figures(
        month=NOVEMBER,
        months=MONTHS,
        revenue={"USD": revenue},
        service=[_service(n) for n in range(12)],
        tiers=[
            TierRevenue(currency="USD", tier="enterprise", revenue_cents=3_302_000, customers=7, share_pct=Decimal("72.1")),
            TierRevenue(currency="USD", tier="pro", revenue_cents=1_278_000, customers=13, share_pct=Decimal("27.9")),
            TierRevenue(currency="USD", tier="free", revenue_cents=0, customers=3, share_pct=Decimal(0)),
        ],
        customers=[
            _customer(n, name, tier, cents)
            for n, (name, tier, cents) in enumerate(
                (
                    ("Acme Robotics Inc.", "enterprise", 1_500_000),
                    ("TechCorp LLC", "enterprise", 850_000),
                    ("RoboFactory", "enterprise", 620_000),
                    ("<script>alert(1)</script>", "pro", 50_000),
                    ("=HYPERLINK(1)", "pro", 50_000),
                )
            )
        ],
        movements=[
            _movement("Nordic Pick AS", "new", "new", (0, 250_000)),
            _movement("Weld & Sons", "new", "new", (0, 50_000)),
            _movement("TechCorp LLC", "kept", "expansion", (50_000, 250_000)),
            _movement("Old Arm Co", "churned", "churn", (50_000, 0)),
        ],
        usage=[
            UsageTrend(
                customer_id=UUID(int=n),
                company_name=name,
                tier="enterprise",
                calls=tuple(calls * 1000 // (n + 2) for calls in _CALLS),
                growth_pct=Decimal("15.0") if n else Decimal("-3.2"),
            )
            for n, name in enumerate(("Acme Robotics Inc.", "TechCorp LLC", "RoboFactory"))
        ],
        refreshed_at=datetime(2026, 11, 27, 20, 0, tzinfo=UTC),
    )


def _month(n: int, *, is_running: bool, has_costs: bool) -> RevenueMonth:
    cents = _REVENUE[n] * 100
    before = _REVENUE[n - 1] * 100 if n else None
    usage, costs = cents * 3 // 10, (432_000, 72_000) if has_costs else (None, None)
    margin = None if costs[0] is None or costs[1] is None else cents - costs[0] - costs[1]
    return RevenueMonth(
        month=MONTHS[n],
        currency="USD",
        is_running=is_running,
        is_closed=not is_running,
        revenue_cents=cents,
        fees_cents=cents - usage,
        usage_cents=usage,
        credited_cents=0,
        revenue_before_cents=before,
        revenue_growth_pct=None if before is None else round(Decimal(100 * (cents - before)) / before, 1),
        mrr_cents=cents * 7 // 10,
        mrr_before_cents=None if before is None else before * 7 // 10,
        mrr_growth_pct=None if before is None else round(Decimal(100 * (cents - before)) / before, 1),
        payers=20,
        arpu_cents=cents // 20,
        gpu_cents=costs[0],
        server_cents=costs[1],
        margin_cents=margin,
        margin_pct=None if margin is None else round(Decimal(100 * margin) / cents, 1),
        forecast_cents=cents * 105 // 100 if is_running else None,
    )


def _service(n: int) -> CustomerMonth:
    return CustomerMonth(
        month=MONTHS[n],
        active_at_start=9 + n,
        new=3 if n == 11 else 1,
        returned=0,
        churned=0,
        active_at_end=23 if n == 11 else 10 + n,
        paying_at_start=8 + n,
        paying_lost=0,
        paying_at_end=9 + n,
        calling=9 + n,
        churn_pct=Decimal(0),
        paying_churn_pct=Decimal(0),
        requests=_CALLS[n] * 1000,
        billable_requests=_CALLS[n] * 992,
        requests_before=_CALLS[n - 1] * 1000 if n else None,
        requests_growth_pct=Decimal("15.0") if n else None,
    )


def _customer(n: int, name: str, tier: str, cents: int) -> CustomerRevenue:
    return CustomerRevenue(
        currency="USD",
        customer_id=UUID(int=n),
        company_name=name,
        tier=tier,
        revenue_cents=cents,
        fees_cents=min(cents, 250_000),
        usage_cents=max(0, cents - 250_000),
        credited_cents=0,
        share_pct=round(Decimal(cents) / 45_800, 1),
    )


def _movement(name: str, movement: str, mrr_movement: str, cents: tuple[int, int]) -> Movement:
    return Movement(
        company_name=name,
        tier="pro",
        currency="USD",
        movement=movement,
        mrr_movement=mrr_movement,
        mrr_start_cents=cents[0],
        mrr_end_cents=cents[1],
    )
