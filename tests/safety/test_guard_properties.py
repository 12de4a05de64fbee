"""What must hold for every chunk: limits, idempotence, monotone scores, and a score that means what the decision says."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.guard import Guard
from safety.layering import base_policy
from safety.profile import Number, Preset
from safety.rules.cartesian import euler_angles
from safety.rules.catalogue import RuleSet, rule_set
from safety.verdict import Decision, RuleStatus
from tests.safety.factories import ANGULAR_STEP_RAD, HZ, LINEAR_STEP_M, action_space, panda, panda_guard

MANY = settings(max_examples=300, deadline=None, derandomize=True)
GUARDS = {kind: panda_guard(kind, step_max=0.4) for kind in (ActionKind.EE_DELTA_ROTVEC, ActionKind.EE_DELTA_EULER)}
Chunk = NDArray[np.float32]


def rules_of(step_max: float) -> RuleSet:
    profile = panda(step_max=step_max)
    return rule_set(action_space(), profile, base_policy(profile, Preset.REDUCED))


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    """Mostly legal steps in random directions, now and then a fast one, so that every decision occurs."""
    steps = draw(st.integers(1, 16))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    directions = random.normal(size=(steps, 2, 3)) * 10.0 ** random.uniform(-2, 0, (steps, 2, 3))
    lengths = random.uniform(0, 1, (steps, 2, 1)) * [[[LINEAR_STEP_M], [0.9 * ANGULAR_STEP_RAD]]]
    motion = directions / np.linalg.norm(directions, axis=2, keepdims=True) * lengths
    for step in draw(st.lists(st.integers(0, steps - 1), max_size=3)):
        motion[step] *= draw(st.floats(0.5, 5.5))
    gripper = random.choice([0.0, 0.2, 0.5, 0.9, 1.0], (steps, 1)) if draw(st.booleans()) else np.full((steps, 1), 0.8)
    outside = draw(st.sampled_from([0.0, 0.0, 0.001, 0.25, -0.25]))
    return np.concatenate([motion.reshape(steps, 6), gripper + outside], axis=1).astype(np.float32)


kinds = st.sampled_from(list(GUARDS))


@MANY
@given(kinds, chunks())
def test_every_limit_holds_on_the_returned_float32_values(kind: ActionKind, raw: Chunk) -> None:
    sent = GUARDS[kind].check(raw).actions.astype(np.float64)
    assert (np.linalg.norm(sent[:, :3], axis=1) * HZ <= 0.25 * (1 + 1e-9)).all()
    angles = np.linalg.norm(sent[:, 3:6], axis=1) if kind is ActionKind.EE_DELTA_ROTVEC else euler_angles(sent[:, 3:6])
    assert (angles * HZ <= 1.25 * (1 + 1e-9)).all()
    assert ((sent[:, 6] >= 0) & (sent[:, 6] <= 1)).all()
    assert (np.abs(np.diff(sent[:, 6])) <= 0.4).all()


@MANY
@given(kinds, chunks())
def test_checking_the_answer_again_changes_nothing(kind: ActionKind, raw: Chunk) -> None:
    first = GUARDS[kind].check(raw)
    assume(first.decision is not Decision.REJECT)
    second = GUARDS[kind].check(first.actions)
    assert second.decision is Decision.PASS
    assert second.actions.tobytes() == first.actions.tobytes()
    assert second.overall_score >= first.overall_score


@MANY
@given(kinds, chunks())
def test_the_score_means_what_the_decision_says(kind: ActionKind, raw: Chunk) -> None:
    verdict = GUARDS[kind].check(raw)
    assert (verdict.decision is Decision.REJECT) == (verdict.overall_score == 0)
    assert (verdict.decision is Decision.PASS) == (verdict.overall_score >= 0.5)
    assert verdict.is_modified == (verdict.actions.tobytes() != raw.tobytes())
    assert verdict.overall_score == min(result.score for result in verdict.rules if result.score is not None)
    assert (verdict.limiting_rule is None) == (verdict.overall_score == 1)


@MANY
@given(kinds, chunks())
def test_the_status_of_a_rule_follows_its_value_limit_and_score(kind: ActionKind, raw: Chunk) -> None:
    for result in GUARDS[kind].check(raw).rules:
        if result.status in {RuleStatus.PASSED, RuleStatus.WARNED}:
            assert result.score is not None
            assert result.score >= 0.5
        if result.status is RuleStatus.CLAMPED:
            assert result.score is not None
            assert 0 < result.score < 0.5
            assert result.message is not None
        if result.status is RuleStatus.REJECTED:
            assert result.score == 0


@MANY
@given(kinds, chunks(), st.floats(1.001, 100))
def test_moving_farther_never_raises_the_score(kind: ActionKind, raw: Chunk, factor: float) -> None:
    farther = raw.copy()
    farther[:, :6] *= np.float32(factor)
    assert GUARDS[kind].check(farther).overall_score <= GUARDS[kind].check(raw).overall_score


@MANY
@given(kinds, chunks(), st.floats(0.05, 1), st.floats(0.05, 1))
def test_tightening_a_limit_never_raises_the_score(kind: ActionKind, raw: Chunk, linear: float, angular: float) -> None:
    profile = panda(step_max=0.4)
    tighter = replace(
        profile.reduced,
        linear_speed_m_per_s=Number(value=0.25 * linear, source="this test"),
        angular_speed_rad_per_s=Number(value=1.25 * angular, source="this test"),
    )
    tight = Guard(replace(profile, reduced=tighter), Preset.REDUCED, action_space(kind))
    assert tight.check(raw).overall_score <= GUARDS[kind].check(raw).overall_score


@MANY
@given(chunks(), st.integers(0, 3))
def test_adding_a_rule_never_raises_the_score(raw: Chunk, left_out: int) -> None:
    rules = rules_of(0.4)
    fewer = replace(rules, motion=rules.motion[:left_out] + rules.motion[left_out + 1 :])
    without = Guard(panda(step_max=0.4), Preset.REDUCED, action_space(), rules=fewer)
    assert GUARDS[ActionKind.EE_DELTA_ROTVEC].check(raw).overall_score <= without.check(raw).overall_score


@MANY
@given(kinds, chunks())
def test_a_clamped_step_points_where_the_raw_step_pointed(kind: ActionKind, raw: Chunk) -> None:
    verdict = GUARDS[kind].check(raw)
    assume(verdict.decision is Decision.CLAMP)
    for columns in (slice(0, 3), slice(3, 6)):
        before, after = raw[:, columns].astype(np.float64), verdict.actions[:, columns].astype(np.float64)
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        moved = lengths > 1e-30
        # Rounding to float32 turns a vector by at most about 1e-7 rad, which is 1e-14 in the cosine.
        assert (np.vecdot(before, after)[moved] >= (1 - 1e-12) * lengths[moved]).all()
        assert (np.linalg.norm(after, axis=1) <= np.linalg.norm(before, axis=1)).all()


def test_the_generated_chunks_reach_every_decision() -> None:
    seen: set[Decision] = set()

    @MANY
    @given(kinds, chunks())
    def collect(kind: ActionKind, raw: Chunk) -> None:
        seen.add(GUARDS[kind].check(raw).decision)

    collect()
    assert seen == set(Decision) - {Decision.TRUNCATE}


@pytest.mark.parametrize(
    ("left_out", "raw_column", "value"),
    [("B1.ee_linear_speed", 1, 0.05), ("B2.ee_angular_speed", 4, 0.3), ("B4.gripper_range", 6, 1.2), ("B7.dim_step", 6, 0.5)],
)
def test_without_its_rule_a_fault_would_pass(left_out: str, raw_column: int, value: float) -> None:
    raw = np.zeros((8, 7), dtype=np.float32)
    raw[:, 6] = 1.0 if left_out != "B4.gripper_range" else 0.9
    raw[3, raw_column] = value
    rules = rules_of(0.4)
    fewer = replace(rules, motion=tuple(rule for rule in rules.motion if rule.id != left_out))
    assert Guard(panda(), Preset.REDUCED, action_space(), rules=fewer).check(raw).decision is Decision.PASS
    assert Guard(panda(), Preset.REDUCED, action_space(), rules=rules).check(raw).limiting_rule == left_out
