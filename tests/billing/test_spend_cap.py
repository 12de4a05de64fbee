"""A spend cap as a number of requests: never a cent too much, never a request too few."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.charge import monthly_charge_cents, round_cents
from billing.rating import Metered, rate
from billing.segments import segments
from billing.spend_cap import most_billable, most_billable_in
from billing.terms import OwnPrices, Subscription
from billing.tiers import Tier, price_versions, tier_terms

CENTS = st.integers(min_value=0, max_value=10**9)
PRICES = st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(1000), places=4)


def charge(requests: int, fixed_cents: int, price: Decimal, included: int, basis_points: int) -> int:
    """What the month costs, as an invoice adds it up."""
    gross = fixed_cents + round_cents(price * max(0, requests - included))
    return gross - round_cents(Decimal(gross * basis_points) / 10_000)


@given(CENTS, CENTS, PRICES, st.integers(0, 10**6), st.integers(0, 9_999))
def test_the_most_costs_at_most_the_cap_and_many_more_cost_more(
    cap: int, fixed: int, price: Decimal, included: int, basis_points: int
) -> None:
    most = most_billable(cap, fixed_cents=fixed, per_request_cents=price, included=included, discount_basis_points=basis_points)
    assert most is not None
    if charge(included, fixed, price, included, basis_points) > cap:
        assert most == included  # they cost nothing more
        return
    assert charge(most, fixed, price, included, basis_points) <= cap
    assert charge(most + 1, fixed, price, included, basis_points) > cap


def test_the_enterprise_example() -> None:
    terms = tier_terms()[Tier.ENTERPRISE]
    most = most_billable(286_450, fixed_cents=terms.monthly_cents, per_request_cents=terms.per_request_cents)
    assert most == 36_450
    assert monthly_charge_cents(Tier.ENTERPRISE, most) == 286_450


def test_where_requests_cost_nothing_there_is_nothing_to_cap() -> None:
    assert most_billable(0, fixed_cents=50_000, per_request_cents=Decimal(0)) is None
    assert most_billable(0, fixed_cents=50_000, per_request_cents=Decimal(1), discount_basis_points=10_000) is None


def test_a_cap_below_the_fee_leaves_what_is_included() -> None:
    assert most_billable(100, fixed_cents=250_000, per_request_cents=Decimal(1)) == 0
    assert most_billable(100, fixed_cents=250_000, per_request_cents=Decimal(1), included=500) == 500


def subscription(day: int, **own: object) -> Subscription:
    """What an enterprise customer has from that day of November on."""
    prices = OwnPrices(**own)  # type: ignore[arg-type]  # a test names fields that exist
    return Subscription(id=UUID(int=day), effective_at=datetime(2026, 11, day, tzinfo=UTC), tier=Tier.ENTERPRISE, own=prices)


OWN = st.fixed_dictionaries(
    {
        "monthly_cents": st.integers(0, 10**6),
        "per_request_cents": st.decimals(min_value=Decimal("0.01"), max_value=Decimal(100), places=2),
        "committed_requests": st.none() | st.integers(1, 10**4),
        "discount_basis_points": st.integers(0, 9_000),
    }
)


@given(st.lists(OWN, min_size=1, max_size=3), st.integers(0, 10**8), st.data())
def test_no_months_invoice_is_above_the_cap_however_its_requests_fell(
    plans: list[dict[str, object]], cap: int, data: st.DataObject
) -> None:
    history = [subscription(1 + 10 * number, **own) for number, own in enumerate(plans)]
    parts = segments(history, price_versions(), date(2026, 11, 1))
    most = most_billable_in(cap, parts)
    assert most is not None
    unused = sum(line.amount_cents for line in rate(date(2026, 11, 1), parts, ()))
    left, quantities = most, []
    for _ in parts[:-1]:
        quantities.append(data.draw(st.integers(0, left)))
        left -= quantities[-1]
    metered = [Metered(segment=part, quantity=count) for part, count in zip(parts, [*quantities, left], strict=True)]
    invoice = sum(line.amount_cents for line in rate(date(2026, 11, 1), parts, metered))
    assert invoice <= max(cap, unused)


def test_a_cap_is_on_what_is_paid_after_the_discount() -> None:
    """A tenth off: 3,000.00 before it are 2,700.00 after it, of which 2,500.00 are the fee."""
    most = most_billable(270_000, fixed_cents=250_000, per_request_cents=Decimal(1), discount_basis_points=1_000)
    assert most == 50_000


@pytest.mark.parametrize("cap_cents", [1, 2, 5, 50])
@pytest.mark.parametrize("basis_points", [1, 3_333, 5_000, 9_999])
def test_rounding_of_the_discount_never_lets_a_cent_through(cap_cents: int, basis_points: int) -> None:
    most = most_billable(cap_cents, fixed_cents=0, per_request_cents=Decimal(1), discount_basis_points=basis_points)
    assert most is not None
    assert charge(most, 0, Decimal(1), 0, basis_points) <= cap_cents < charge(most + 1, 0, Decimal(1), 0, basis_points)


def test_a_month_in_two_parts_counts_the_dearer_price_for_all_of_it() -> None:
    """2,500.00 and 1,000.00 for half a month each; 5,000.00 leave 3,250.00 less a cent a part, at 2 cents a request."""
    history = [
        subscription(1, per_request_cents=Decimal(1)),
        subscription(16, per_request_cents=Decimal(2), monthly_cents=100_000),
    ]
    parts = segments(history, price_versions(), date(2026, 11, 1))
    assert most_billable_in(500_000, parts) == (500_000 - 125_000 - 50_000 - 2) // 2


def test_a_month_in_one_part_is_exact() -> None:
    (part,) = segments([subscription(1)], price_versions(), date(2026, 11, 1))
    assert most_billable_in(286_450, [part]) == 36_450
