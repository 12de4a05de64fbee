"""Every line of an invoice, to the cent: fees by the second, usage, commitments, late requests, discounts."""

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from billing.charge import month_to_date_cents, monthly_charge_cents
from billing.money import round_cents
from billing.rating import LineKind, metered_cents, rate, with_balance
from billing.segments import segments
from billing.tiers import Price, PriceVersion, Tier
from tests.billing.making import LISTED, MONTH, amounts, at, subscription, used, whole_month

FEE, USAGE, COMMITMENT, OVERAGE = LineKind.FEE, LineKind.USAGE, LineKind.COMMITMENT, LineKind.OVERAGE
COUNTS = st.integers(0, 10**7)


def test_acme_robotics_pays_2864_dollars_and_50_cents() -> None:
    part = whole_month()
    lines = rate(MONTH, [part], [used(part, 36_450)])
    assert amounts(lines) == [(FEE, None, 250_000), (USAGE, 36_450, 36_450)]
    assert sum(line.amount_cents for line in lines) == 286_450
    assert [line.description for line in lines] == ["Enterprise plan", "Enterprise plan: requests"]


def test_free_has_no_fee_and_no_usage_has_no_line() -> None:
    part = whole_month(Tier.FREE)
    assert rate(MONTH, [part], [used(part, 0)]) == ()


def test_a_change_at_noon_of_the_16th_is_prorated_by_the_second() -> None:
    parts = segments([subscription(1, at(1)), subscription(2, at(16, 12, 0, 1), Tier.ENTERPRISE)], LISTED, MONTH)
    assert amounts(rate(MONTH, parts, [])) == [
        (FEE, None, round_cents(Fraction(50_000 * (15 * 86_400 + 43_201), 30 * 86_400))),
        (FEE, None, round_cents(Fraction(250_000 * (14 * 86_400 + 43_199), 30 * 86_400))),
    ]


@given(st.lists(st.integers(1, 30 * 86_400 - 1), max_size=6, unique=True), st.integers(0, 10**6))
def test_a_month_cut_at_one_price_costs_what_the_whole_costs(cuts: list[int], cents: int) -> None:
    starts = [at(1), *(datetime.fromtimestamp(at(1).timestamp() + cut, UTC) for cut in sorted(cuts))]
    history = [subscription(n, start, monthly_cents=cents) for n, start in enumerate(starts)]
    lines = rate(MONTH, segments(history, LISTED, MONTH), [])
    assert sum(line.amount_cents for line in lines) == cents


def test_a_pause_costs_nothing() -> None:
    history = [subscription(1, at(1)), subscription(2, at(11), is_active=False), subscription(3, at(21))]
    assert sum(line.amount_cents for line in rate(MONTH, segments(history, LISTED, MONTH), [])) == 33_333


def test_a_new_price_list_holds_from_its_day() -> None:
    dearer = PriceVersion(
        effective_from=date(2026, 11, 16),
        currency="USD",
        prices={tier: Price(monthly_cents=60_000, per_request_cents=Decimal(2)) for tier in Tier},
    )
    parts = segments([subscription(1, at(1))], (*LISTED, dearer), MONTH)
    lines = rate(MONTH, parts, [used(parts[0], 10), used(parts[1], 10)])
    assert amounts(lines) == [(FEE, None, 25_000), (FEE, None, 30_000), (USAGE, 10, 0), (USAGE, 10, 20)]
    assert [line.price_version for line in lines] == ["2025-01-01", "2026-11-16"] * 2


def test_committed_requests_are_paid_in_any_case_and_more_cost_the_overage_price() -> None:
    part = whole_month(per_request_cents=Decimal("0.8"), committed_requests=1_000, overage_per_request_cents=Decimal("1.25"))
    assert amounts(rate(MONTH, [part], [])) == [(FEE, None, 250_000), (COMMITMENT, 1_000, 800)]
    assert amounts(rate(MONTH, [part], [used(part, 1_003)]))[2] == (OVERAGE, 1_003, 4)  # 3.75


def test_a_commitment_is_prorated_like_the_fee() -> None:
    parts = segments([subscription(1, at(1)), subscription(2, at(16), committed_requests=1_001)], LISTED, MONTH)
    (line,) = [line for line in rate(MONTH, parts, []) if line.kind is COMMITMENT]
    assert line.quantity == 501


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=8), st.decimals(0, 5, places=4), st.none() | st.integers(1, 9_000))
def test_in_how_many_pieces_usage_comes_does_not_change_what_it_costs(
    pieces: list[int], price: Decimal, committed: int | None
) -> None:
    part = whole_month(per_request_cents=price, committed_requests=committed)
    settled = cents = 0
    for piece in pieces:
        lines = rate(date(2026, 12, 1), [], [used(part, piece, settled=settled, cents=cents)])
        settled, cents = settled + piece, cents + sum(line.amount_cents for line in lines)
    assert cents == metered_cents(part, sum(pieces))


def test_late_requests_name_their_month() -> None:
    part = whole_month()
    (line,) = rate(date(2026, 12, 1), [], [used(part, 5, settled=100, cents=100)])
    assert (line.is_late, line.service_month, line.amount_cents) == (True, MONTH, 5)
    assert line.description == "Enterprise plan: requests of November 2026, recorded or corrected after it was invoiced"


def test_a_discount_is_one_line_rounded_once() -> None:
    part = whole_month(Tier.PRO, monthly_cents=3_333, per_request_cents=Decimal("0.1"), discount_basis_points=1_250)
    lines = rate(MONTH, [part], [used(part, 15)])
    assert amounts(lines) == [(FEE, None, 3_333), (USAGE, 15, 2), (LineKind.DISCOUNT, None, -417)]
    assert lines[-1].description == "Discount 12.5 %"


def test_lines_below_zero_are_carried() -> None:
    part = whole_month()
    lines = rate(date(2026, 12, 1), [], [used(part, -7, settled=10, cents=10)])
    assert amounts(with_balance(lines, date(2026, 12, 1))) == [(USAGE, -7, -7), (LineKind.CARRIED, None, 7)]
    assert with_balance(lines[:0], MONTH) == ()


@given(COUNTS, st.sampled_from(Tier))
def test_a_month_to_date_is_what_its_invoice_will_say(count: int, tier: Tier) -> None:
    part = whole_month(tier)
    total = sum(line.amount_cents for line in rate(MONTH, [part], [used(part, count)]))
    assert total == month_to_date_cents(part.terms, count) == monthly_charge_cents(tier, count)


@given(COUNTS, st.integers(0, 10_000), st.none() | st.integers(1, 10**6))
def test_a_month_to_date_knows_commitment_and_discount(count: int, points: int, committed: int | None) -> None:
    part = whole_month(committed_requests=committed, discount_basis_points=points)
    lines = rate(MONTH, [part], [used(part, count)])
    assert sum(line.amount_cents for line in lines) == month_to_date_cents(part.terms, count)
