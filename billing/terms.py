"""What one customer pays: their subscription's own prices where they have some, else the price list's. Knows no usage."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from billing.money import round_cents
from billing.tiers import PriceVersion, Tier

ALL_BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPrices:
    """A customer's own prices; None means the price list's. A currency of their own needs both prices in it.

    `committed_requests` are paid each month, used or not, at `per_request_cents`; what goes beyond costs
    `overage_per_request_cents`. The discount (in hundredths of a percent) is on everything.
    """

    currency: str | None = None
    monthly_cents: int | None = None
    per_request_cents: Decimal | None = None
    committed_requests: int | None = None
    overage_per_request_cents: Decimal | None = None
    discount_basis_points: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What a customer has from an instant on, until the next."""

    id: UUID
    effective_at: datetime
    tier: Tier
    is_active: bool = True
    own: OwnPrices = OwnPrices()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What counts while a subscription and a version of the price list are in force."""

    tier: Tier
    price_version: str
    currency: str
    monthly_cents: int
    per_request_cents: Decimal
    committed_requests: int | None
    overage_per_request_cents: Decimal | None
    discount_basis_points: int

    @property
    def beyond_cents(self) -> Decimal:
        """The price of the next request when the commitment, if any, is used up."""
        return self.per_request_cents if self.overage_per_request_cents is None else self.overage_per_request_cents

    def discount_of(self, cents: int) -> int:
        """What is taken off that amount."""
        return round_cents(Fraction(cents * self.discount_basis_points, ALL_BASIS_POINTS))

    def as_json(self) -> Mapping[str, object]:
        """For the snapshot in an invoice; exact decimals as text."""
        beyond = self.overage_per_request_cents
        return {
            "tier": self.tier.value,
            "price_version": self.price_version,
            "currency": self.currency,
            "monthly_cents": self.monthly_cents,
            "per_request_cents": str(self.per_request_cents),
            "committed_requests": self.committed_requests,
            "overage_per_request_cents": None if beyond is None else str(beyond),
            "discount_basis_points": self.discount_basis_points,
        }


def terms_of(tier: Tier, own: OwnPrices, version: PriceVersion) -> Terms:
    """The subscription's own prices where there are some, else that version's."""
    listed = version.prices[tier]
    return Terms(
        tier=tier,
        price_version=version.name,
        currency=own.currency or version.currency,
        monthly_cents=listed.monthly_cents if own.monthly_cents is None else own.monthly_cents,
        per_request_cents=listed.per_request_cents if own.per_request_cents is None else own.per_request_cents,
        committed_requests=own.committed_requests,
        overage_per_request_cents=own.overage_per_request_cents,
        discount_basis_points=own.discount_basis_points,
    )
