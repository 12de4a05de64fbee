"""B8 in isolation: how much of a chunk may be scaled before it is refused."""

import pytest

from safety.rules.clamped_share import ClampedShare
from safety.verdict import RuleStatus


@pytest.mark.parametrize(
    ("shortened", "steps", "is_refused"),
    [
        (1, 1, False),
        (1, 2, False),
        (2, 2, True),
        (1, 3, False),
        (2, 4, True),
        (2, 8, False),
        (3, 8, True),
        (50, 200, False),
        (51, 200, True),
    ],
)
def test_a_quarter_of_the_steps_and_always_one_may_be_scaled(shortened: int, steps: int, is_refused: bool) -> None:
    result = ClampedShare().judge(shortened=shortened, steps=steps)
    assert (result.status is RuleStatus.REJECTED) == is_refused
    assert (result.score == 0) == is_refused
    assert (result.value, result.limit) == (shortened / steps, max(0.25, 1 / steps))


def test_nothing_scaled_scores_one() -> None:
    result = ClampedShare().judge(shortened=0, steps=8)
    assert (result.status, result.score, result.value) == (RuleStatus.PASSED, 1.0, None)


def test_a_refusal_says_how_many() -> None:
    assert ClampedShare().judge(shortened=3, steps=8).message == "3 of 8 steps would be scaled; the limit is 0.25"
