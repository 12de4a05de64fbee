"""B4 and B7 in isolation."""

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.rules.gripper import GripperRange, GripperStep
from safety.rules.rule import evidence_of
from safety.verdict import NotEvaluated, RuleStatus

RANGE = GripperRange(column=6, low=0.0, high=1.0, unit="1")
STEP = GripperStep(column=6, step_max=0.25, range_end=1.0, unit="1")


def gripper(*commands: float) -> NDArray[np.float32]:
    actions = np.zeros((len(commands), 7), dtype=np.float32)
    actions[:, 6] = commands
    return actions


def test_both_ends_are_inside_and_score_one() -> None:
    result = RANGE.evaluate(evidence_of(gripper(0.0, 1.0, -0.0)))
    assert (result.status, result.score) == (RuleStatus.PASSED, 1.0)


@pytest.mark.parametrize(("command", "limit"), [(-1e-45, 0.0), (1.0000001, 1.0), (-1.0, 0.0), (2.0, 1.0)])
def test_outside_by_up_to_one_range_is_put_to_the_end(command: float, limit: float) -> None:
    actions = gripper(0.5, command, -0.0)
    result = RANGE.evaluate(evidence_of(actions))
    assert (result.status, result.at, result.limit) == (RuleStatus.CLAMPED, (1, 6), limit)
    assert result.score is not None
    assert 0 < result.score < 0.5
    clamped = actions.astype(np.float64)
    RANGE.clamp(clamped, evidence_of(actions))
    assert clamped[:, 6].tolist() == [0.5, limit, 0.0]
    assert np.signbit(clamped[2, 6])  # a legal -0.0 is not touched


@pytest.mark.parametrize("command", [-1.0000001, 2.0000002, 100.0, -50.0])
def test_farther_outside_than_one_range_is_another_unit(command: float) -> None:
    result = RANGE.evaluate(evidence_of(gripper(0.5, command)))
    assert (result.status, result.score) == (RuleStatus.REJECTED, 0.0)


def test_the_farther_of_both_sides_is_reported() -> None:
    assert RANGE.evaluate(evidence_of(gripper(-0.1, 1.3))).value == pytest.approx(1.3)
    assert RANGE.evaluate(evidence_of(gripper(-0.4, 1.3))).value == pytest.approx(-0.4)


def test_the_largest_change_is_reported_at_the_step_it_leads_to() -> None:
    result = STEP.evaluate(evidence_of(gripper(0.0, 0.25, 0.75, 0.75)))
    assert (result.status, result.value, result.at) == (RuleStatus.CLAMPED, 0.5, (2, 6))
    assert result.message == "step 2 changes the gripper by 0.5; the limit is 0.25"


def test_a_change_exactly_at_the_limit_is_within() -> None:
    assert STEP.evaluate(evidence_of(gripper(0.0, 0.25, 0.5))).score == 0.5


def test_a_single_step_has_nothing_to_compare_with() -> None:
    result = STEP.evaluate(evidence_of(gripper(1.0)))
    assert (result.status, result.reason, result.score) == (RuleStatus.NOT_EVALUATED, NotEvaluated.NO_STATE, None)


def test_a_sudden_close_is_followed_at_the_allowed_rate() -> None:
    actions = gripper(0.0, 1.0, 1.0, 1.0, 1.0, 1.0).astype(np.float64)
    STEP.clamp(actions, evidence_of(actions.astype(np.float32)))
    assert actions[:, 6] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1], abs=2e-6)
    assert actions[:, 6].max() <= 1


@pytest.mark.parametrize("step_max", [0.001, 0.03, 0.25, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_after_the_clamp_no_change_exceeds_the_limit_as_float32(step_max: float, seed: int) -> None:
    rule = GripperStep(column=6, step_max=step_max, range_end=1.0, unit="1")
    actions = gripper(*np.random.default_rng(seed).uniform(0, 1, 200)).astype(np.float64)
    rule.clamp(actions, evidence_of(actions.astype(np.float32)))
    sent = actions.astype(np.float32)
    assert rule.evaluate(evidence_of(sent)).status in {RuleStatus.PASSED, RuleStatus.WARNED}
    assert 0 <= sent[:, 6].min() <= sent[:, 6].max() <= 1


def test_legal_changes_are_not_touched() -> None:
    actions = gripper(0.1, 0.35, 0.3, 0.2).astype(np.float64)
    before = actions.copy()
    STEP.clamp(actions, evidence_of(actions.astype(np.float32)))
    assert np.array_equal(actions, before)
