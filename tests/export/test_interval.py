"""Wilson's interval against published values and its own promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.interval import wilson


@pytest.mark.parametrize(
    ("succeeded", "trials", "low", "high"),
    [(190, 200, 0.9104, 0.9726), (100, 100, 0.9630, 1.0), (0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (0, 0, 0.0, 1.0)],
)
def test_it_gives_the_values_of_the_textbook(succeeded: int, trials: int, low: float, high: float) -> None:
    assert wilson(succeeded, trials) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 1000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_it_holds_the_share_and_stays_inside(counts: tuple[int, int]) -> None:
    low, high = wilson(*counts)
    assert 0.0 <= low <= counts[0] / counts[1] <= high <= 1.0


@pytest.mark.parametrize("counts", [(3, 2), (-1, 2), (0, -1)])
def test_counts_that_are_none_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no count of successes"):
        wilson(*counts)
