"""Open months: lines as SQL keeps them add up to the invoice, and the forecast only ever adds."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from billing.rating import Line, LineKind, Metered, rate
from billing.segments import midnight, next_month, segments
from billing.terms import OwnPrices, Subscription
from billing.tiers import Tier, price_versions
from control_plane.revenue.open_month import expected, open_lines

MONTHS = [date(2026, 2, 1), date(2028, 2, 1), date(2026, 11, 1), date(2026, 12, 1)]
OWN = st.builds(
    OwnPrices,
    committed_requests=st.none() | st.integers(1, 10**6),
    overage_per_request_cents=st.none() | st.decimals(min_value=0, max_value=5, places=3),
    discount_basis_points=st.integers(0, 10_000),
    monthly_cents=st.none() | st.integers(0, 10**6),
    per_request_cents=st.none() | st.decimals(min_value=0, max_value=5, places=4),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[date, tuple[Subscription, ...], list[int]]:
    """A month, plans that begin before and in it, and requests."""
    month = draw(st.sampled_from(MONTHS))
    seconds = int((midnight(next_month(month)) - midnight(month)).total_seconds())
    offsets = [-86_400, *draw(st.lists(st.integers(0, seconds - 1), max_size=3))]
    plans = tuple(
        Subscription(
            id=UUID(int=n + 1),
            effective_at=midnight(month) + timedelta(seconds=offset),
            tier=draw(st.sampled_from(Tier)),
            is_active=draw(st.booleans()),
            own=draw(OWN),
        )
        for n, offset in enumerate(offsets)
    )
    return month, plans, draw(st.lists(st.integers(0, 10**6), min_size=4, max_size=4))


def metered_of(month: date, plans: tuple[Subscription, ...], counts: list[int]) -> list[Metered]:
    """Requests of each part of the month."""
    parts = segments(plans, price_versions(), month)
    return [Metered(segment=part, quantity=count) for part, count in zip(parts, counts, strict=False) if count]


@given(histories())
def test_open_lines_add_up_to_the_invoice_and_discounts_go_where_the_ledger_puts_them(
    case: tuple[date, tuple[Subscription, ...], list[int]],
) -> None:
    month, plans, counts = case
    lines = rate(month, segments(plans, price_versions(), month), metered_of(month, plans, counts))
    rows = open_lines(lines)
    assert sum(row.fees_cents + row.usage_cents for row in rows) == sum(line.amount_cents for line in lines)
    for row, line in zip(rows, lines, strict=True):
        if line.kind is not LineKind.DISCOUNT:
            assert row.fees_cents + row.usage_cents == line.amount_cents


@given(histories(), st.integers(0, 27), st.integers(0, 86_399))
def test_a_forecast_is_at_least_what_there_is_and_at_the_end_exactly_that(
    case: tuple[date, tuple[Subscription, ...], list[int]], day: int, second: int
) -> None:
    month, plans, counts = case
    metered = metered_of(month, plans, counts)
    now = midnight(month) + timedelta(days=day, seconds=second)
    today = rate(month, segments(plans, price_versions(), month), metered)
    forecast = expected(month, plans, metered, now)
    assert total(forecast) >= total(today)
    last = midnight(next_month(month)) - timedelta(microseconds=1)
    assert abs(total(expected(month, plans, metered, last)) - total(today)) <= 5
    assert expected(month, plans, metered, midnight(next_month(month))) == today


def test_half_a_month_at_the_same_pace_doubles_its_usage() -> None:
    month = date(2026, 11, 1)
    plan = (Subscription(id=UUID(int=1), effective_at=datetime(2026, 1, 1, tzinfo=UTC), tier=Tier.ENTERPRISE),)
    metered = metered_of(month, plan, [10_000])
    lines = expected(month, plan, metered, datetime(2026, 11, 16, tzinfo=UTC))
    assert total(lines) == 250_000 + 20_000
    assert total(expected(month, plan, [], datetime(2026, 11, 16, tzinfo=UTC))) == 250_000
    assert Decimal(total(expected(month, plan, metered, datetime(2026, 11, 1, tzinfo=UTC)))) == 250_000 + 10_000 * (1 + 720)


def total(lines: tuple[Line, ...]) -> int:
    """What they ask for."""
    return sum(line.amount_cents for line in lines)
