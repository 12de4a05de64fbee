"""The price list is the one that customers were shown."""

from decimal import Decimal

import pytest

from billing.tiers import Tier, tier_terms, trial_limits

SHOWN = [
    # tier, price $/month, $/request, per minute, per day, per month, quota that usage is shown against
    (Tier.FREE, 0, "0", 10, 1_000, 10_000, 10_000),
    (Tier.PRO, 500, "0", 100, 10_000, 100_000, 100_000),
    (Tier.ENTERPRISE, 2_500, "0.01", 1_000, 100_000, None, 1_000_000),
]


@pytest.mark.parametrize(("tier", "dollars", "per_request", "minute", "day", "month", "quota"), SHOWN)
def test_the_terms_are_those_of_the_price_list(
    tier: Tier, dollars: int, per_request: str, minute: int, day: int, month: int | None, quota: int
) -> None:
    terms = tier_terms()[tier]
    assert (terms.monthly_cents, terms.per_request_cents) == (dollars * 100, Decimal(per_request) * 100)
    assert (terms.per_minute, terms.per_day, terms.per_month, terms.monthly_quota) == (minute, day, month, quota)


def test_every_tier_has_terms() -> None:
    assert set(tier_terms()) == set(Tier) == {tier for tier, *_ in SHOWN}


@pytest.mark.parametrize("tier", [Tier.FREE, Tier.PRO])
def test_a_whole_minute_may_be_sent_at_once_on_free_and_pro(tier: Tier) -> None:
    assert tier_terms()[tier].concurrency >= tier_terms()[tier].per_minute


def test_test_keys_have_limits_below_those_of_every_tier() -> None:
    trial = trial_limits()
    lowest = tier_terms()[Tier.FREE]
    assert (trial.per_minute, trial.per_day, trial.per_month) <= (lowest.per_minute, lowest.per_day, 10_000)
    assert 0 < trial.concurrency <= lowest.concurrency
