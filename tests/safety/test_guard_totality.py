"""Whatever is handed in, a verdict comes out: complete, finite, and without touching the input."""

import decimal
import fractions
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from safety.context import Context, PreviousChunk, RobotState
from safety.guard import Guard
from safety.layering import base_policy
from safety.memory import packed, remembered, unpacked
from safety.profile import Preset
from safety.rules.catalogue import rule_set
from safety.verdict import Decision, Verdict
from safety.wire import fallback_json, outcome_json, verdict_json
from tests.safety.factories import READY, chunk, joint_chunk, joint_space, panda, panda_guard

GUARD = panda_guard(step_max=0.3)
JOINTS = Guard(panda(), Preset.REDUCED, joint_space())
MANY = settings(max_examples=200, deadline=None, derandomize=True)


def assert_is_a_complete_verdict(verdict: Verdict) -> None:
    text = json.dumps(verdict_json(verdict), allow_nan=False)
    assert len(json.loads(text)["rules"]) == verdict.coverage.applicable == 26
    assert 0 <= verdict.overall_score <= 1
    assert verdict.actions.dtype == np.float32
    assert np.isfinite(verdict.actions).all()
    assert (verdict.decision is Decision.REJECT) == (verdict.overall_score == 0) == (len(verdict.actions) == 0)
    assert (verdict.fallback is not None) == (verdict.decision is Decision.REJECT)
    if verdict.fallback is not None:
        json.dumps(fallback_json(verdict.fallback), allow_nan=False)


class Hostile:
    """Everything a guard might be tempted to call raises."""

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray[Any, Any]:
        raise RuntimeError("called")

    def __len__(self) -> int:
        raise RuntimeError("called")

    def __iter__(self) -> Any:
        raise RuntimeError("called")

    def __repr__(self) -> str:
        raise RuntimeError("called")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)
any_array = hnp.arrays(
    dtype=hnp.scalar_dtypes() | hnp.nested_dtypes(max_leaves=3),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=8),
)
seven_wide = hnp.arrays(
    dtype=hnp.floating_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes(),
    shape=st.tuples(st.integers(1, 6), st.just(7)),
)


@settings(MANY, max_examples=150)
@given(json_values)
def test_any_json_value_is_refused(value: object) -> None:
    verdict = GUARD.check(value)
    assert_is_a_complete_verdict(verdict)
    assert verdict.limiting_rule == "A1.shape_dtype"


@MANY
@given(any_array)
def test_any_array_gets_a_verdict(array: object) -> None:
    assert_is_a_complete_verdict(GUARD.check(array))


@MANY
@given(seven_wide)
def test_any_numbers_of_the_right_shape_get_a_verdict_and_stay_as_they_are(array: np.ndarray[Any, Any]) -> None:
    before = array.tobytes()
    assert_is_a_complete_verdict(GUARD.check(array))
    assert array.tobytes() == before


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(Hostile(), id="hostile"),
        pytest.param([[0.0] * 7, [0.0]], id="ragged"),
        pytest.param([[0.0] * 7], id="list"),
        pytest.param(np.full((1, 7), object()), id="objects"),
        pytest.param(np.array([[True] * 7]), id="booleans"),
        pytest.param(np.array([["1"] * 7]), id="numbers as text"),
        pytest.param(np.zeros((1, 7)) + 1j, id="complex"),
        pytest.param(np.array([[decimal.Decimal(0)] * 7]), id="decimals"),
        pytest.param(fractions.Fraction(1, 3), id="fraction"),
        pytest.param(np.float32(0), id="scalar"),
        pytest.param(np.zeros((10_000_000, 7), dtype=np.int8), id="far too long"),
        pytest.param(np.broadcast_to(np.float32(0), (1 << 40, 7)), id="a terabyte that is not there"),
        pytest.param(np.zeros((2, 7)).view(np.recarray), id="array subclass"),
        pytest.param(memoryview(b"\0" * 28), id="buffer"),
        pytest.param(type, id="class"),
    ],
)
def test_what_is_no_chunk_is_refused_by_a1(raw: object) -> None:
    verdict = GUARD.check(raw)
    assert_is_a_complete_verdict(verdict)
    assert verdict.limiting_rule == "A1.shape_dtype"


def test_layout_byte_order_and_write_protection_do_not_matter() -> None:
    plain = chunk(6, x=0.02)
    strided = np.zeros((12, 14), dtype=np.float32)[::2, ::2]
    strided[:] = plain
    protected = plain.copy()
    protected.flags.writeable = False
    for variant in (strided, np.asfortranarray(plain), plain.astype(">f4"), plain[::-1][::-1], protected):
        assert GUARD.check(variant).actions.tobytes() == plain.tobytes()


def test_the_input_is_not_changed_by_a_clamp() -> None:
    actions = chunk()
    actions[0, 0] = 0.05
    before = actions.tobytes()
    assert GUARD.check(actions).decision is Decision.CLAMP
    assert actions.tobytes() == before


def test_a_signalling_nan_and_strict_floating_point_settings_raise_nothing() -> None:
    signalling = chunk(2)
    signalling.view(np.uint32)[0, 0] = 0x7FA00000
    clamped = chunk()
    clamped[0, :3] = (0.05, 1e-45, 0)
    with np.errstate(all="raise"):
        assert GUARD.check(signalling).limiting_rule == "A2.finite"
        assert GUARD.check(np.full((2, 7), 1e308)).limiting_rule == "A2.finite"
        assert GUARD.check(clamped).decision is Decision.CLAMP


@pytest.mark.parametrize("value", [5e-324, 1e-310, -1e-45, 1e-45, -0.0])
def test_the_smallest_numbers_pass(value: float) -> None:
    actions = np.full((3, 7), value)
    actions[:, 6] = abs(value)
    verdict = GUARD.check(actions)
    assert (verdict.decision, verdict.overall_score) == (Decision.PASS, 1.0)
    assert verdict.actions.tobytes() == actions.astype(np.float32).tobytes()


odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 3, 10**400, -(10**400), -0.0, 0.5, 1e300, np.nan, np.inf, "1", b"", [], {}, (1.0, "a"), object()]
)
oddities: st.SearchStrategy[Any] = st.lists(odd, min_size=7, max_size=7) | odd | st.just([0.0, -0.5, 0.0, -2.0, 0.0, 1.6, 0.7])


@settings(MANY, max_examples=3000, database=None)
@given(st.data())
def test_a_hostile_context_gets_a_verdict_and_a_memory(data: st.DataObject) -> None:
    state = RobotState(q=data.draw(oddities), ee_position=data.draw(odd), gripper=data.draw(odd))
    names = ("seq", "executed_index", "obs_age_ms", "network_rtt_ms", "control_hz")
    drawn: dict[str, Any] = {name: data.draw(odd) for name in names}
    context = Context(
        state=state if data.draw(st.booleans()) else None,
        previous=PreviousChunk(actions=joint_chunk(), sent_at_s=1.0, seq=2, q=READY) if data.draw(st.booleans()) else None,
        now_s=2.0,
        image_hash="a",
        **drawn,
    )
    for guard, raw in ((JOINTS, joint_chunk()), (JOINTS, None)):
        verdict = guard.check(raw, context)
        json.dumps(verdict_json(verdict), allow_nan=False)
        json.dumps(outcome_json(verdict), allow_nan=False)
        assert (verdict.decision is Decision.REJECT) == (verdict.overall_score == 0) == (len(verdict.actions) == 0)
        kept = remembered(context, verdict)
        assert kept is None or unpacked(packed(kept)) is not None


@pytest.mark.parametrize(
    ("left_out", "raw", "context"),
    [
        ("C1.joint_velocity", np.concatenate([joint_chunk(6), joint_chunk(6) + np.float32(0.15)]), Context()),
        ("B5.joint_position", np.tile(np.array([*READY[:3], -0.1, *READY[4:], 0.5], dtype=np.float32), (3, 1)), Context()),
        ("D1.start_gap", joint_chunk() + np.float32(0.3), Context(state=RobotState(q=READY))),
        ("E3.staleness", joint_chunk(), Context(obs_age_ms=5000.0)),
    ],
)
def test_without_its_rule_a_fault_of_joints_would_pass(left_out: str, raw: np.ndarray[Any, Any], context: Context) -> None:
    raw = raw.copy()
    raw[:, 7] = 0.5
    rules = rule_set(joint_space(), panda(), base_policy(panda(), Preset.REDUCED))
    motion, stateful = (tuple(one for one in some if one.id != left_out) for some in (rules.motion, rules.stateful))
    without = Guard(panda(), Preset.REDUCED, joint_space(), rules=replace(rules, motion=motion, stateful=stateful))
    assert without.check(raw, context).decision is Decision.PASS
    assert JOINTS.check(raw, context).decision is not Decision.PASS
