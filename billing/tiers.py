"""The price list as values: what each tier allows, and what it costs under each dated version. Knows no customer.

`tier_terms()[Tier.PRO].per_day` is what identity and limits read; it costs a look at the clock and a dictionary.
"""

import tomllib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any


class Tier(StrEnum):
    """What a customer has bought."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


@dataclass(frozen=True, slots=True, kw_only=True)
class TierTerms:
    """Price in cents and limits in requests. `per_month` None is unlimited; `monthly_quota` is what usage is shown against."""

    monthly_cents: int
    per_request_cents: Decimal
    per_minute: int
    per_day: int
    per_month: int | None
    monthly_quota: int
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a tier costs."""

    monthly_cents: int
    per_request_cents: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceVersion:
    """The prices from a day on; its name is that day."""

    effective_from: date
    currency: str
    prices: Mapping[Tier, Price]

    @property
    def name(self) -> str:
        """How invoices name it."""
        return self.effective_from.isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLimits:
    """What all test keys of one customer may send together, whatever the tier."""

    per_minute: int
    per_day: int
    per_month: int
    concurrency: int


@cache
def trial_limits() -> TrialLimits:
    """The `[test_keys]` of `prices.toml`. What test keys do costs nothing."""
    return TrialLimits(**_document()["test_keys"])


@cache
def price_versions() -> tuple[PriceVersion, ...]:
    """Every version of the price list, oldest first."""
    return tuple(sorted(map(_version, _document()["versions"]), key=lambda version: version.effective_from))


def version_on(versions: Sequence[PriceVersion], day: date) -> PriceVersion:
    """The version in force on that UTC day. Before the first one it is the first."""
    at = bisect_right(versions, day, key=lambda version: version.effective_from)
    return versions[max(at - 1, 0)]


def tier_terms() -> Mapping[Tier, TierTerms]:
    """The terms of every tier today."""
    return _terms_under(version_on(price_versions(), datetime.now(UTC).date()).name)


@cache
def _terms_under(version_name: str) -> Mapping[Tier, TierTerms]:
    version = next(version for version in price_versions() if version.name == version_name)
    limits = _document()["limits"]
    return {tier: _terms(limits[tier.value], version.prices[tier]) for tier in Tier}


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(resources.files("billing").joinpath("prices.toml").read_text())


def _version(table: dict[str, Any]) -> PriceVersion:
    prices = {
        tier: Price(
            monthly_cents=table[tier.value]["monthly_cents"],
            per_request_cents=Decimal(table[tier.value]["per_request_cents"]),
        )
        for tier in Tier
    }
    return PriceVersion(effective_from=table["effective_from"], currency=table["currency"], prices=prices)


def _terms(limits: dict[str, int], price: Price) -> TierTerms:
    return TierTerms(
        monthly_cents=price.monthly_cents,
        per_request_cents=price.per_request_cents,
        per_minute=limits["per_minute"],
        per_day=limits["per_day"],
        per_month=limits.get("per_month"),
        monthly_quota=limits["monthly_quota"],
        concurrency=limits["concurrency"],
    )
