"""No cent is lost or made: rounding, splitting, and how amounts read."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import CURRENCIES, as_decimal, as_text, round_cents, split, unit_text, whole_parts

CENTS = st.integers(-(10**12), 10**12)


@given(CENTS, st.lists(st.integers(0, 10**6), min_size=1).filter(any))
def test_parts_add_up_to_the_whole_and_each_is_within_a_cent(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    assert all(abs(part - Fraction(total * weight, whole)) < 1 for part, weight in zip(parts, weights, strict=True))


@given(st.lists(st.fractions(-(10**6), 10**6), max_size=8))
def test_whole_parts_add_up_to_the_rounded_sum(exact: list[Fraction]) -> None:
    parts = whole_parts(exact)
    assert sum(parts) == round_cents(sum(exact, Fraction(0)))
    assert all(abs(part - of) < 1 or part == of for part, of in zip(parts, exact, strict=True))


def test_the_largest_remainders_get_the_missing_cents() -> None:
    assert split(100, (1, 1, 1)) == (34, 33, 33)
    assert split(-100, (1, 1, 1)) == (-33, -33, -34)
    assert whole_parts([Fraction(1, 3), Fraction(2, 3), Fraction(2, 3)]) == (0, 1, 1)


def test_nothing_is_split_by_nothing() -> None:
    with pytest.raises(ValueError, match="every weight is 0"):
        split(1, (0, 0))


@pytest.mark.parametrize(
    ("cents", "currency", "text"),
    [
        (286_450, "USD", "USD 2,864.50"),
        (-300, "EUR", "-EUR 3.00"),
        (1_234_567, "JPY", "JPY 1,234,567"),
        (1_500, "KWD", "KWD 1.500"),
        (0, "USD", "USD 0.00"),
    ],
)
def test_an_amount_reads_as_its_currency_is_written(cents: int, currency: str, text: str) -> None:
    assert as_text(cents, currency) == text


@pytest.mark.parametrize(
    ("cents", "text"),
    [("1", "USD 0.01"), ("0.25", "USD 0.0025"), ("0", "USD 0.00"), ("100000", "USD 1,000.00")],
)
def test_a_unit_price_shows_all_its_decimals(cents: str, text: str) -> None:
    assert unit_text(Decimal(cents), "USD") == text


@given(CENTS, st.sampled_from(sorted(CURRENCIES)))
def test_the_major_unit_is_exact(cents: int, currency: str) -> None:
    assert as_decimal(cents, currency) * 10 ** CURRENCIES[currency] == cents
