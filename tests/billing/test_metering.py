"""How a day in which the plan changed divides: by the rows, and in doubt for the customer; always adding up."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from billing.metering import Part, shares
from billing.segments import segments
from billing.tiers import Tier
from tests.billing.making import LISTED, MONTH, at, subscription

CHEAP, DEAR = segments(
    [subscription(1, at(1), per_request_cents=Decimal("0.5")), subscription(2, at(16, 12), Tier.ENTERPRISE)], LISTED, MONTH
)


def part(segment: object, rows: int, settled: int = 0) -> Part:
    """One side."""
    return Part(segment=segment, rows=rows, settled=settled)  # type: ignore[arg-type]  # a segment of this module


def test_rows_divide_the_day() -> None:
    assert shares(10, [part(CHEAP, 4), part(DEAR, 6)]) == (4, 6)


def test_what_is_settled_stays_where_it_was() -> None:
    assert shares(3, [part(CHEAP, 4, 4), part(DEAR, 6, 3)]) == (0, 3)


def test_what_no_row_explains_goes_where_it_is_cheapest() -> None:
    assert shares(13, [part(CHEAP, 4), part(DEAR, 6)]) == (7, 6)


def test_what_is_taken_back_is_taken_where_it_is_dearest() -> None:
    assert shares(-5, [part(CHEAP, 4, 4), part(DEAR, 6, 6)]) == (0, -5)


def test_rows_beyond_the_roll_up_are_not_billed() -> None:
    assert shares(5, [part(CHEAP, 4), part(DEAR, 6)]) == (4, 1)


SIDES = st.tuples(st.integers(0, 99), st.integers(0, 99))


@given(st.integers(-99, 99), SIDES, SIDES)
def test_shares_add_up_to_the_day(unsettled: int, one: tuple[int, int], other: tuple[int, int]) -> None:
    assert sum(shares(unsettled, [part(CHEAP, *one), part(DEAR, *other)])) == unsettled
