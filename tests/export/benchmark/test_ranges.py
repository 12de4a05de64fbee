"""Ranges are read as perf_analyzer reads them; what cannot be measured is refused in one line."""

import pytest

from export.benchmark.failure import BadRange
from export.benchmark.ranges import concurrency_levels, request_rates


@pytest.mark.parametrize(
    ("text", "levels"), [("4", (4,)), ("1:3", (1, 2, 3)), ("1:8:2", (1, 3, 5, 7)), ("1:8:7", (1, 8)), ("8:8:5", (8,))]
)
def test_a_range_of_clients(text: str, levels: tuple[int, ...]) -> None:
    assert concurrency_levels(text) == levels


def test_a_range_of_rates_may_be_fractions() -> None:
    assert request_rates("0.5:1.1:0.2") == pytest.approx((0.5, 0.7, 0.9, 1.1))


@pytest.mark.parametrize(
    "text", ["", "x", "0", "-1", "8:1", "1:8:0", "1:8:-1", "1:2:3:4", "1:inf", "nan", "1.5", "1:3:0.5", "1:2000", "1:1000:1"]
)
def test_a_range_that_cannot_be_measured_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadRange) as refused:
        concurrency_levels(text)
    assert "\n" not in str(refused.value)
    assert repr(text) in str(refused.value)
