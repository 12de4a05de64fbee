"""Conformal thresholds: the right rank, the promised rate of false alarms, and a file that needs a signature."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.calibration import (
    ActionRange,
    Rollout,
    Threshold,
    Thresholds,
    ThresholdsError,
    TooFewRolloutsError,
    calibrate,
    conformal_threshold,
    outside,
    parse_thresholds,
    thresholds_toml,
    worst_disagreement,
)
from safety.overlap import disagreement

SCALE = np.ones(3)


def rollout(seed: int, chunks: int = 5) -> Rollout:
    random = np.random.default_rng(seed)
    path = np.cumsum(random.normal(size=(chunks * 4 + 8, 3)), axis=0)
    made = tuple((path[at * 4 : at * 4 + 8] + random.normal(size=(8, 3)) * 0.1).astype(np.float32) for at in range(chunks))
    return Rollout(chunks=made, executed_index=(3,) * (chunks - 1), entropies=tuple(random.uniform(0, 0.3, chunks).tolist()))


@pytest.mark.parametrize(("count", "rank"), [(19, 19), (20, 20), (39, 38), (99, 95), (100, 96)])
def test_the_threshold_has_the_conformal_rank(count: int, rank: int) -> None:
    scores = np.random.default_rng(count).permutation(count).astype(float)
    assert conformal_threshold(scores.tolist()).value == rank - 1


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.1, 9), (0.5, 1)])
def test_too_few_rollouts_say_how_many_are_needed(alpha: float, needed: int) -> None:
    with pytest.raises(TooFewRolloutsError) as caught:
        conformal_threshold([0.0] * (needed - 1), alpha)
    assert caught.value.needed == needed
    assert conformal_threshold([0.0] * needed, alpha).rollouts == needed


def test_at_most_one_in_twenty_new_rollouts_raises_a_false_alarm() -> None:
    alarms = []
    for trial in range(200):
        random = np.random.default_rng(trial)
        threshold = conformal_threshold(random.gamma(2.0, size=50).tolist()).value
        alarms.append(float((random.gamma(2.0, size=500) > threshold).mean()))
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.01)


def test_every_score_is_fitted_and_holds_for_most_of_new_rollouts() -> None:
    fitted = calibrate([rollout(seed) for seed in range(80)], policy="p-1", robot_type="franka_panda", scale=SCALE)
    assert fitted.chunk_consistency is not None
    assert fitted.token_entropy is not None
    assert fitted.action_range is not None
    new = [worst_disagreement(rollout(seed), SCALE) or 0.0 for seed in range(1000, 1200)]
    assert np.mean(np.array(new) > fitted.chunk_consistency.value) < 0.12
    assert fitted.action_range.excess.rollouts == 40


def test_what_the_rollouts_lack_is_not_calibrated() -> None:
    bare = [replace(rollout(seed), executed_index=(7,) * 4, entropies=None) for seed in range(25)]
    fitted = calibrate(bare, policy="p", robot_type="r", scale=SCALE)
    assert (fitted.chunk_consistency, fitted.token_entropy, fitted.action_range) == (None, None, None)
    with pytest.raises(TooFewRolloutsError):
        calibrate([], policy="p", robot_type="r", scale=SCALE)


def test_disagreement_compares_the_moments_that_both_chunks_are_about() -> None:
    old = np.arange(24, dtype=np.float64).reshape(8, 3)
    off = old[4:] + np.array([3.0, 4.0, 0.0])
    assert disagreement(old, old[4:], 3, SCALE) == 0.0
    assert disagreement(old, off, 3, SCALE) == 5.0
    assert disagreement(old, off, 3, 2 * SCALE) == 2.5
    assert disagreement(old, old, 7, SCALE) is None
    assert disagreement(old, old[:2], -1, SCALE) == 0.0


def test_outside_is_in_half_widths_and_columns_without_width_count_nothing() -> None:
    low, high = np.array([0.0, 1.0, -2.0]), np.array([2.0, 1.0, 2.0])
    found: NDArray[np.float64] = outside(np.array([[1.0, 5.0, 0.0], [3.0, 1.0, -6.0]]), low, high)
    assert found.tolist() == [[0, 0, 0], [1.0, 0, 2.0]]


FULL = Thresholds(
    policy="openvla-7b",
    robot_type="franka_panda",
    chunk_consistency=Threshold(value=1.25, alpha=0.05, rollouts=80),
    token_entropy=Threshold(value=0.3, alpha=0.05, rollouts=80),
    action_range=ActionRange(low=(-0.5, 0.0), high=(0.5, 1.0), excess=Threshold(value=0.0, alpha=0.05, rollouts=40)),
)


def signed(text: str) -> str:
    return text.replace('reviewed_by = ""', 'reviewed_by = "A. Person"').replace('reviewed_on = ""', 'reviewed_on = "2026-11-23"')


@pytest.mark.parametrize("thresholds", [FULL, Thresholds(policy="p", robot_type="r")])
def test_a_signed_file_says_what_was_fitted(thresholds: Thresholds) -> None:
    assert parse_thresholds(signed(thresholds_toml(thresholds))) == thresholds


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ('reviewed_by = "A. Person"', 'reviewed_by = " "', "reviewed_by"),
        ('reviewed_by = "A. Person"', "reviewed_by = 3", "reviewed_by"),
        ('reviewed_on = "2026-11-23"', 'reviewed_on = "soon"', "reviewed_on"),
        ("format = 1", "format = 2", "format"),
        ("format = 1", "format = ", "not TOML"),
        ('policy = "openvla-7b"', "", "policy"),
        ("value = 1.25", "value = nan", "chunk_consistency.value"),
        ("value = 1.25", "value = -1.0", "chunk_consistency"),
        ("value = 1.25", "value = true", "chunk_consistency.value"),
        ("alpha = 0.05", "alpha = 1.5", "chunk_consistency"),
        ("[token_entropy]", "[[token_entropy]]", "token_entropy"),
        ("low = [-0.5, 0.0]", "low = [-0.5]", "action_range"),
        ("low = [-0.5, 0.0]", "low = [0.6, 0.0]", "low is above high"),
        ("low = [-0.5, 0.0]", 'low = ["a", 0.0]', "action_range"),
    ],
)
def test_an_unsigned_or_damaged_file_does_nothing(before: str, after: str, fault: str) -> None:
    text = signed(thresholds_toml(FULL))
    assert before in text
    with pytest.raises(ThresholdsError) as caught:
        parse_thresholds(text.replace(before, after, 1))
    assert fault in caught.value.fault


def test_what_comes_out_of_the_calibration_is_unsigned() -> None:
    with pytest.raises(ThresholdsError, match="nobody has reviewed"):
        parse_thresholds(thresholds_toml(FULL))


def test_a_name_that_would_break_the_file_is_refused() -> None:
    with pytest.raises(ThresholdsError, match="no plain name"):
        thresholds_toml(replace(FULL, policy='a"\nformat = 2'))
    assert math.isfinite(FULL.chunk_consistency.value if FULL.chunk_consistency else math.nan)
