"""B1 and B2 in isolation: the measure of a rotation against matrices, and clamps that keep direction."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.rules.cartesian import StepSpeed, angular_speed, euler_angles, linear_speed, norms
from safety.rules.rule import evidence_of
from safety.verdict import RuleStatus
from tests.safety.factories import ANGULAR_STEP_RAD, HZ, LINEAR_STEP_M, action_space, chunk

GROUP = action_space().groups[0]


def clamped(rule: StepSpeed, actions: NDArray[np.float64]) -> NDArray[np.bool_]:
    evidence = evidence_of(actions.astype(np.float32))
    rule.evaluate(evidence)
    return rule.clamp(actions, evidence)


def axis_rotation(axis: int, angle_rad: float) -> NDArray[np.float64]:
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(angle_rad)
    matrix[i, j], matrix[j, i] = -np.sin(angle_rad), np.sin(angle_rad)
    return matrix


def matrix_angle(matrix: NDArray[np.float64]) -> float:
    skew = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    return float(np.arctan2(np.linalg.norm(skew), np.trace(matrix) - 1))


def angle_in_every_order(triple: Sequence[float]) -> list[float]:
    turns = [axis_rotation(axis, triple[axis]) for axis in range(3)]
    return [matrix_angle(turns[a] @ turns[b] @ turns[c]) for a, b, c in permutations(range(3))]


def test_an_euler_angle_is_the_largest_over_all_axis_orders() -> None:
    for triple in np.random.default_rng(1).uniform(-0.9, 0.9, (300, 3)):
        assert euler_angles(triple[np.newaxis])[0] == pytest.approx(max(angle_in_every_order(triple)), abs=1e-12)


def test_about_one_axis_euler_and_rotation_vector_agree() -> None:
    turns = np.diag([0.3, -0.02, 1.4])
    assert euler_angles(turns) == pytest.approx(norms(turns), rel=1e-12)


def test_euler_components_are_composed_not_added() -> None:
    assert euler_angles(np.full((1, 3), 0.1))[0] < 0.2


def test_an_euler_angle_never_falls_when_the_triple_grows() -> None:
    factors = np.linspace(0, 60, 20_000)[:, np.newaxis]
    for direction in np.random.default_rng(2).uniform(-1, 1, (40, 3)):
        angles = euler_angles(factors * direction)
        assert (np.diff(angles) >= -1e-12).all()


def test_degrees_do_not_pass_as_a_small_remainder() -> None:
    assert euler_angles(np.array([[0.0, 0.0, 4 * np.pi]]))[0] == pytest.approx(4 * np.pi)


def test_the_fastest_step_is_reported_in_its_unit() -> None:
    actions = chunk(4)
    actions[2, :3] = (0.0, 0.03, 0.04)
    result = linear_speed(action_space(), GROUP, 0.25).evaluate(evidence_of(actions))
    assert (result.status, result.at, result.unit, result.limit) == (RuleStatus.CLAMPED, (2, None), "m/s", 0.25)
    assert result.value == pytest.approx(0.05 * HZ, rel=1e-6)
    assert result.message == "step 2 would move the end effector at 0.4 m/s; the limit is 0.25"


def test_a_step_exactly_at_the_limit_is_within_and_the_next_float_is_over() -> None:
    at, over = chunk(1), chunk(1)
    at[0, 0] = LINEAR_STEP_M
    over[0, 0] = np.nextafter(np.float32(LINEAR_STEP_M), np.float32(1))
    speed = linear_speed(action_space(), GROUP, 0.25)
    assert (speed.evaluate(evidence_of(at)).status, speed.evaluate(evidence_of(at)).score) == (RuleStatus.WARNED, 0.5)
    assert speed.evaluate(evidence_of(over)).status is RuleStatus.CLAMPED


def test_subnormal_steps_are_no_motion() -> None:
    actions = np.full((3, 7), 1e-45, dtype=np.float32)
    assert linear_speed(action_space(), GROUP, 0.25).evaluate(evidence_of(actions)).status is RuleStatus.PASSED


RULES = [
    pytest.param(lambda hz: linear_speed(action_space(control_hz=hz), GROUP, 0.25), id="translation"),
    pytest.param(lambda hz: angular_speed(action_space(control_hz=hz), GROUP, 1.25), id="rotation vector"),
    pytest.param(lambda hz: angular_speed(action_space(ActionKind.EE_DELTA_EULER, control_hz=hz), GROUP, 1.25), id="euler"),
    pytest.param(lambda hz: angular_speed(action_space(ActionKind.EE_DELTA_EULER, control_hz=hz), GROUP, 2.5), id="fast euler"),
]


@pytest.mark.parametrize("rule_at", RULES)
@pytest.mark.parametrize("hz", [0.5, 1.0, 5.0, 8.0, 30.0, 1000.0])
def test_a_clamped_step_is_within_the_limit_as_float32_and_keeps_its_direction(rule_at: object, hz: float) -> None:
    assert callable(rule_at)
    rule = rule_at(hz)
    assert isinstance(rule, StepSpeed)
    random = np.random.default_rng(3)
    directions = random.normal(size=(5000, 3)) * 10.0 ** random.uniform(-3, 0, (5000, 3))
    factors = rule.limit / hz * random.uniform(1.0, 5.0, (5000, 1))
    actions = np.zeros((5000, 7))
    actions[:, rule.columns] = (directions / norms(directions)[:, np.newaxis] * factors).astype(np.float32)
    before = actions[:, rule.columns].copy()
    was_over = rule.magnitude(before) * hz > rule.limit
    clamped(rule, actions)
    after = actions[:, rule.columns].astype(np.float32).astype(np.float64)
    assert (rule.magnitude(after) * hz <= rule.limit).all()
    assert np.array_equal(after[~was_over], before[~was_over])
    cosines = np.vecdot(before, after) / (norms(before) * norms(after))
    assert (cosines >= 1 - 1e-12).all()


def test_a_clamped_rotation_vector_or_translation_keeps_nearly_all_the_allowed_speed() -> None:
    actions = chunk(2).astype(np.float64)
    actions[1, :3] = (0.05, 0.05, 0.0)
    clamped(linear_speed(action_space(), GROUP, 0.25), actions)
    assert norms(actions[1:, :3])[0] == pytest.approx(LINEAR_STEP_M, rel=1e-6)


def test_a_step_over_by_rounding_is_clamped_but_not_counted_as_shortened() -> None:
    actions = chunk(3).astype(np.float64)
    actions[0, 0] = LINEAR_STEP_M * (1 + 5e-7)
    actions[1, 0] = LINEAR_STEP_M * (1 + 2e-6)
    assert clamped(linear_speed(action_space(), GROUP, 0.25), actions).tolist() == [False, True, False]
    assert (actions[:, 0] <= LINEAR_STEP_M).all()


def test_the_rotation_limit_is_in_radians_per_second() -> None:
    actions = chunk(1)
    actions[0, 3:6] = (0.0, ANGULAR_STEP_RAD, 0.0)
    result = angular_speed(action_space(), GROUP, 1.25).evaluate(evidence_of(actions))
    assert (result.id, result.value, result.unit, result.score) == ("B2.ee_angular_speed", 1.25, "rad/s", 0.5)
