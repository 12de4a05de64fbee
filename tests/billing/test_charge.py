"""What a month costs."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.charge import month_to_date_cents, monthly_charge_cents, round_cents
from billing.tiers import Tier, tier_terms
from tests.billing.making import whole_month

COUNTS = st.integers(min_value=0, max_value=10**9)


def test_acme_robotics_pays_2864_dollars_and_50_cents() -> None:
    assert monthly_charge_cents(Tier.ENTERPRISE, 36_450) == 286_450


@pytest.mark.parametrize(("tier", "cents"), [(Tier.FREE, 0), (Tier.PRO, 50_000), (Tier.ENTERPRISE, 250_000)])
def test_a_month_without_requests_costs_the_fee(tier: Tier, cents: int) -> None:
    assert monthly_charge_cents(tier, 0) == cents


@given(COUNTS)
def test_free_and_pro_cost_the_same_however_much_is_sent(count: int) -> None:
    assert [monthly_charge_cents(tier, count) for tier in (Tier.FREE, Tier.PRO)] == [0, 50_000]


@given(COUNTS)
def test_an_enterprise_request_costs_a_cent(count: int) -> None:
    assert monthly_charge_cents(Tier.ENTERPRISE, count) == tier_terms()[Tier.ENTERPRISE].monthly_cents + count


def test_a_negative_count_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="-1"):
        monthly_charge_cents(Tier.PRO, -1)


@pytest.mark.parametrize(("amount", "cents"), [("0.4999", 0), ("0.5", 1), ("1.5", 2), ("2.5", 3), ("-0.5", -1), ("-0.4", 0)])
def test_half_a_cent_is_rounded_away_from_zero(amount: str, cents: int) -> None:
    assert round_cents(Decimal(amount)) == cents


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=6))
def test_rounding_moves_by_half_a_cent_at_most(amount: Decimal) -> None:
    assert abs(round_cents(amount) - amount) <= Decimal("0.5")


def test_a_month_to_date_counts_the_commitment_what_is_beyond_it_and_the_discount() -> None:
    """10 % off 2,500.00 fee + 1,000 committed at 1 cent + 500 more at 2 cents."""
    own = {"committed_requests": 1_000, "overage_per_request_cents": Decimal(2), "discount_basis_points": 1_000}
    terms = whole_month(Tier.ENTERPRISE, **own).terms
    assert month_to_date_cents(terms, 1_500) == 252_000 - 25_200
    assert month_to_date_cents(terms, 0) == 251_000 - 25_100


def test_a_month_to_date_of_less_than_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="-1"):
        month_to_date_cents(whole_month().terms, -1)
