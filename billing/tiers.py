"""The price list as values: `tier_terms()[Tier.PRO].per_day`. Read once by the composition roots; knows no customer."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cache
from importlib import resources


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
class TrialLimits:
    """What all test keys of one customer may send together, whatever the tier."""

    per_minute: int
    per_day: int
    per_month: int
    concurrency: int


@cache
def trial_limits() -> TrialLimits:
    """The `[test_keys]` of `prices.toml`. What test keys do costs nothing."""
    table = tomllib.loads(resources.files("billing").joinpath("prices.toml").read_text())
    return TrialLimits(**table["test_keys"])


@cache
def tier_terms() -> Mapping[Tier, TierTerms]:
    """The terms of every tier from `prices.toml`."""
    table = tomllib.loads(resources.files("billing").joinpath("prices.toml").read_text())
    return {tier: _terms(table[tier.value]) for tier in Tier}


def _terms(row: dict[str, int | str]) -> TierTerms:
    per_month = row.get("per_month")
    return TierTerms(
        monthly_cents=int(row["monthly_cents"]),
        per_request_cents=Decimal(row["per_request_cents"]),
        per_minute=int(row["per_minute"]),
        per_day=int(row["per_day"]),
        per_month=None if per_month is None else int(per_month),
        monthly_quota=int(row["monthly_quota"]),
        concurrency=int(row["concurrency"]),
    )
