"""The ramp of the catalogue, and rounding that never flatters."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.score import BELOW_HALF, judge, ramp, rounded_score, rounded_value
from safety.verdict import RuleStatus

THOROUGH = settings(max_examples=300, deadline=None, derandomize=True)
finite = st.floats(min_value=0, max_value=1e12)


@pytest.mark.parametrize(("utilisation", "score"), [(0, 1), (0.8, 1), (0.9, 0.75), (1, 0.5), (3, 0.25), (5, 0), (1e300, 0)])
def test_the_ramp_has_the_corners_of_the_catalogue(utilisation: float, score: float) -> None:
    assert ramp(utilisation) == pytest.approx(score, abs=1e-12)


def test_the_catalogue_example_of_a_joint_at_3_02_of_2_61_scores_0_48() -> None:
    assert round(ramp(3.02 / 2.61), 2) == 0.48


def test_exactly_at_the_limit_scores_exactly_half() -> None:
    assert judge(0.25, 0.25) == (RuleStatus.WARNED, 0.5)


def test_one_float_above_the_limit_scores_below_half() -> None:
    assert judge(math.nextafter(0.25, 1), 0.25) == (RuleStatus.CLAMPED, BELOW_HALF)


def test_a_limit_that_cannot_be_clamped_falls_from_half_to_nothing() -> None:
    assert (ramp(1.0, reject_point=1.0), ramp(math.nextafter(1, 2), reject_point=1.0)) == (0.5, 0.0)


def test_what_is_not_a_number_is_rejected() -> None:
    assert judge(math.nan, 0.25) == (RuleStatus.REJECTED, 0.0)


@THOROUGH
@given(finite, finite)
def test_the_ramp_never_rises(one: float, other: float) -> None:
    assert ramp(max(one, other)) <= ramp(min(one, other))


@THOROUGH
@given(finite, st.floats(min_value=1e-6, max_value=1e6))
def test_the_status_follows_the_values_and_the_score_follows_the_status(value: float, limit: float) -> None:
    status, score = judge(value, limit)
    assert (status in {RuleStatus.PASSED, RuleStatus.WARNED}) == (value <= limit) == (score >= 0.5)
    assert (status is RuleStatus.REJECTED) == (score == 0)
    assert (status is RuleStatus.PASSED) == (score == 1)


@THOROUGH
@given(st.floats(min_value=0, max_value=1))
def test_a_rounded_score_is_never_higher_and_keeps_its_meaning(score: float) -> None:
    rounded = rounded_score(score)
    assert rounded <= score <= rounded * 1.002 + 1e-300
    assert (rounded == 0, rounded < 0.5, rounded == 1) == (score == 0, score < 0.5, score == 1)


@THOROUGH
@given(st.floats(min_value=-1e9, max_value=1e9), st.floats(min_value=-1e9, max_value=1e9))
def test_a_rounded_value_stays_on_its_side_of_the_limit(value: float, limit: float) -> None:
    rounded = rounded_value(value, limit)
    assert (rounded > limit, rounded < limit) == (value > limit, value < limit)
    assert rounded == pytest.approx(value, rel=1e-3, abs=0)


def test_digits_are_added_only_where_they_are_needed() -> None:
    assert rounded_value(0.866025, 0.25) == 0.866
    assert rounded_value(0.2500000037, 0.25) == 0.250000004
    assert rounded_value(-0.0001, None) == -0.0001
    assert rounded_value(math.nextafter(1.0, 2.0), 1.0) == math.nextafter(1.0, 2.0)
