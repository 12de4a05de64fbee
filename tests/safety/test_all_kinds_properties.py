"""What must hold for every action kind, with and without a known state: three thousand cases each."""

from functools import cache
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.action_space import EE_DELTAS, ActionKind
from safety.guard import Guard
from safety.layering import layered
from safety.profile import Preset
from safety.rules.cartesian import euler_angles
from safety.verdict import Decision, RuleStatus, Verdict
from tests.safety.cases import GUARDS, KINDS, POLICY, ROBOTS, SPACES, Case, case_of, layer_of

MANY = settings(max_examples=3000, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**63)
LIMITS = POLICY.limits
SPEED = np.array(LIMITS.joint_speed_rad_per_s)
EXACT = 1 + 1e-9
MOVES = [kind for kind in KINDS if kind not in (ActionKind.EE_ABS, ActionKind.JOINT_ABS)]


def run(case: Case) -> Verdict:
    return case.guard.check(case.raw, case.context)


@MANY
@given(seeds)
def test_every_case_keeps_every_promise(seed: int) -> None:
    case = case_of(seed)
    verdict = run(case)
    nothing_returned_is_outside_a_limit(case, verdict)
    the_score_means_what_the_decision_says(case, verdict)
    if verdict.decision is not Decision.REJECT:
        checking_the_answer_again_changes_nothing_and_scores_no_less(case, verdict)
        without_the_state_no_rule_looks_that_did_not_with_it(case, verdict)


def nothing_returned_is_outside_a_limit(case: Case, verdict: Verdict) -> None:
    sent = verdict.actions.astype(np.float64)
    assert np.isfinite(sent).all()
    assert ((sent[:, -1] >= 0) & (sent[:, -1] <= 1)).all()
    state = case.context.state
    if case.kind in EE_DELTAS:
        angles = np.linalg.norm(sent[:, 3:6], axis=1) if case.kind is ActionKind.EE_DELTA_ROTVEC else euler_angles(sent[:, 3:6])
        assert (np.linalg.norm(sent[:, :3], axis=1) * 8 <= 0.25 * EXACT).all()
        assert (angles * 8 <= 1.25 * EXACT).all()
    elif case.kind is ActionKind.EE_ABS:
        start = [] if state is None else [state.ee_position]
        path = np.array([*start, *sent[:, :3]]).reshape(-1, 3)
        assert (np.linalg.norm(np.diff(path, axis=0), axis=1) * 8 <= 0.25 * EXACT).all()
    elif case.kind is ActionKind.JOINT_ABS:
        start = [] if state is None else [state.q]
        path = np.array([*start, *sent[:, :7]]).reshape(-1, 7)
        assert (np.abs(np.diff(path, axis=0)) * 10 <= SPEED * EXACT).all()
        assert_is_within_or_on_the_way_in(path, has_start=state is not None)
    else:
        speeds = sent[:, :7] * (1.0 if case.kind is ActionKind.JOINT_VEL else 10.0)
        assert (np.abs(speeds) <= SPEED * EXACT).all()
        if state is not None and state.q is not None and len(sent):
            path = np.concatenate([np.array(state.q)[np.newaxis], np.array(state.q) + np.cumsum(speeds / 10.0, axis=0)])
            assert_is_within_or_on_the_way_in(path, has_start=True)


def assert_is_within_or_on_the_way_in(path: np.ndarray, *, has_start: bool) -> None:
    """Also: no reported state lets a joint beyond the manufacturer's limit, or farther out than it is."""
    low, high = np.array(LIMITS.joint_min_rad) - 1e-9, np.array(LIMITS.joint_max_rad) + 1e-9
    if not has_start:
        assert ((path >= low) & (path <= high)).all()
        return
    for before, after in pairwise(path):
        assert (after <= np.maximum(high, before + 1e-9)).all()
        assert (after >= np.minimum(low, before - 1e-9)).all()


def checking_the_answer_again_changes_nothing_and_scores_no_less(case: Case, first: Verdict) -> None:
    second = case.guard.check(first.actions, case.context)
    assert second.decision is Decision.PASS, [(r.id, r.status, r.message) for r in second.rules if r.message]
    assert second.actions.tobytes() == first.actions.tobytes()
    assert second.overall_score >= first.overall_score


def the_score_means_what_the_decision_says(case: Case, verdict: Verdict) -> None:
    scores = [result.score for result in verdict.rules if result.score is not None]
    assert verdict.overall_score == min(scores)
    assert (verdict.decision is Decision.REJECT) == (verdict.overall_score == 0) == (len(verdict.actions) == 0)
    assert (verdict.decision is Decision.PASS) == (verdict.overall_score >= 0.5)
    assert (verdict.decision is Decision.PASS) == (verdict.actions.tobytes() == case.raw.tobytes())
    assert (verdict.truncated_at is not None) == (verdict.decision is Decision.TRUNCATE)
    assert (verdict.fallback is not None) == (verdict.refused_for is not None) == (verdict.decision is Decision.REJECT)
    assert verdict.coverage.evaluated == sum(result.status is not RuleStatus.NOT_EVALUATED for result in verdict.rules)
    for result in verdict.rules:
        assert (result.status is RuleStatus.NOT_EVALUATED) == (result.reason is not None)
        assert (result.status is RuleStatus.REJECTED) == (result.score == 0)


@MANY
@given(seeds, st.sampled_from([1.01, 1.5, 3.0, 20.0]))
def test_moving_farther_never_raises_the_score(seed: int, factor: float) -> None:
    case = case_of(seed, MOVES)
    if not _starts_inside(case):
        return
    farther = case.raw.copy()
    farther[:, :-1] *= np.float32(factor)
    assert case.guard.check(farther, case.context).overall_score <= run(case).overall_score + 1e-12


def _starts_inside(case: Case) -> bool:
    """Moving farther may well be moving in, from outside; and joint paths are not straight in space."""
    state, box = case.context.state, POLICY.workspace.box
    if state is None or box is None:
        return True
    if state.ee_position is not None:
        return bool((np.array(box.low_m) < state.ee_position).all() and (state.ee_position < np.array(box.high_m)).all())
    return False


TIGHTER = [layered(POLICY, layer_of(seed, POLICY)) for seed in range(12)]


@cache
def tighter_guard(kind: ActionKind, index: int) -> Guard:
    return Guard(ROBOTS[kind], Preset.REDUCED, SPACES[kind], policy=TIGHTER[index])


@MANY
@given(seeds, st.integers(0, len(TIGHTER) - 1))
def test_tightening_never_raises_the_score(seed: int, index: int) -> None:
    case = case_of(seed)
    guard = tighter_guard(case.kind, index)
    assert guard.check(case.raw, case.context).overall_score <= run(case).overall_score + 1e-12


def without_the_state_no_rule_looks_that_did_not_with_it(case: Case, verdict: Verdict) -> None:
    blind = {result.id for result in case.guard.check(case.raw).rules if result.status is not RuleStatus.NOT_EVALUATED}
    assert blind <= {result.id for result in verdict.rules if result.status is not RuleStatus.NOT_EVALUATED}


@MANY
@given(seeds, st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e-310, -0.0]))
def test_an_odd_number_anywhere_is_refused_or_exact(seed: int, odd: float) -> None:
    case = case_of(seed)
    raw = case.raw.astype(np.float64)
    raw.flat[seed % raw.size] = odd
    verdict = case.guard.check(raw, case.context)
    if not abs(odd) < 1e300:
        assert verdict.decision is Decision.REJECT
        assert verdict.limiting_rule == "A2.finite"
    elif verdict.decision is Decision.PASS:
        assert verdict.actions.tobytes() == raw.astype(np.float32).tobytes()
    assert np.isfinite(verdict.actions).all()


@MANY
@given(seeds)
def test_no_layer_ever_loosens_what_is_above_it(seed: int) -> None:
    policy = POLICY
    for depth in range(3):
        above, policy = policy, layered(policy, layer_of(seed + depth, policy))
        for field in ("linear_speed_m_per_s", "angular_speed_rad_per_s"):
            assert getattr(policy.limits, field) <= getattr(above.limits, field)
        assert np.all(np.array(policy.limits.joint_speed_rad_per_s) <= above.limits.joint_speed_rad_per_s)
        assert np.all(np.array(policy.limits.joint_min_rad) >= above.limits.joint_min_rad)
        assert np.all(np.array(policy.limits.joint_max_rad) <= above.limits.joint_max_rad)
        assert policy.workspace.box is not None
        assert above.workspace.box is not None
        assert np.all(np.array(policy.workspace.box.low_m) >= above.workspace.box.low_m)
        assert np.all(np.array(policy.workspace.box.high_m) <= above.workspace.box.high_m)


def test_the_cases_reach_every_decision_in_every_kind() -> None:
    seen = {(case.kind, run(case).decision) for case in map(case_of, range(1200))}
    assert seen == {(kind, decision) for kind in GUARDS for decision in Decision}
