"""Subscriptions, segments and usage with valid defaults, as values."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from billing.rating import Line, LineKind, Metered, Settled
from billing.segments import Segment, segments
from billing.terms import OwnPrices, Subscription
from billing.tiers import Price, PriceVersion, Tier

MONTH = date(2026, 11, 1)
LISTED = (
    PriceVersion(
        effective_from=date(2025, 1, 1),
        currency="USD",
        prices={
            Tier.FREE: Price(monthly_cents=0, per_request_cents=Decimal(0)),
            Tier.PRO: Price(monthly_cents=50_000, per_request_cents=Decimal(0)),
            Tier.ENTERPRISE: Price(monthly_cents=250_000, per_request_cents=Decimal(1)),
        },
    ),
)


def at(day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    """An instant of November 2026."""
    return datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)


def subscription(n: int, effective_at: datetime, tier: Tier = Tier.PRO, *, is_active: bool = True, **own: object) -> Subscription:
    """The n-th row of a history."""
    prices = OwnPrices(**own)  # type: ignore[arg-type]  # a test names fields that exist
    return Subscription(id=UUID(int=n), effective_at=effective_at, tier=tier, is_active=is_active, own=prices)


def whole_month(tier: Tier = Tier.ENTERPRISE, **own: object) -> Segment:
    """One plan for all of November."""
    only = subscription(1, datetime(2026, 1, 1, tzinfo=UTC), tier)
    own_prices = OwnPrices(**own)  # type: ignore[arg-type]  # as above
    (part,) = segments([replace(only, own=own_prices)], LISTED, MONTH)
    return part


def used(segment: Segment, quantity: int, *, settled: int = 0, cents: int = 0) -> Metered:
    """Requests to be settled now."""
    return Metered(segment=segment, quantity=quantity, settled=Settled(quantity=settled, amount_cents=cents))


def amounts(lines: tuple[Line, ...]) -> list[tuple[LineKind, int | None, int]]:
    """Kind, quantity and cents."""
    return [(line.kind, line.quantity, line.amount_cents) for line in lines]
