"""A1–A4 in isolation: what is no chunk, no number or no plausible unit."""

import numpy as np
import pytest

from safety.rules.integrity import MAGNITUDE_MAX, Finite, Magnitude, ShapeDtype, UnitSuspect
from safety.rules.rule import evidence_of
from safety.verdict import RuleResult, RuleStatus

SHAPE = ShapeDtype(width=7)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", ">f4", ">f8", "i1", "i8", "u1", "u8", ">i4"])
def test_every_real_dtype_becomes_native_float32(dtype: str) -> None:
    wire = SHAPE.read(np.ones((3, 7), dtype=dtype))
    assert isinstance(wire, np.ndarray)
    assert (wire.dtype, wire.dtype.isnative, wire.shape) == (np.dtype("f4"), True, (3, 7))
    assert (wire == 1).all()


def test_the_copy_is_contiguous_writable_and_its_own() -> None:
    raw = np.ones((14, 3), dtype=np.float32).T[:, ::2]
    raw.flags.writeable = False
    wire = SHAPE.read(raw)
    assert isinstance(wire, np.ndarray)
    assert wire.flags.c_contiguous
    assert wire.flags.writeable
    assert not np.shares_memory(wire, raw)


@pytest.mark.parametrize("dtype", ["?", "c8", "c16", "O", "U3", "S3", "M8[s]", "m8[s]", "V8", "f4,f4"])
def test_what_is_not_a_real_number_is_refused_before_any_cast(dtype: str) -> None:
    result = SHAPE.read(np.zeros((3, 7), dtype=dtype))
    assert isinstance(result, RuleResult)
    assert (result.id, result.status, result.score) == ("A1.shape_dtype", RuleStatus.REJECTED, 0)


@pytest.mark.parametrize("shape", [(), (7,), (0, 7), (201, 7), (3, 6), (3, 8), (3, 14), (3, 0), (1, 3, 7), (3, 7, 1)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    result = SHAPE.read(np.zeros(shape, dtype=np.float32))
    assert isinstance(result, RuleResult)
    assert result.message is not None
    assert str(shape) in result.message


@pytest.mark.parametrize("steps", [1, 200])
def test_one_and_two_hundred_steps_are_accepted(steps: int) -> None:
    assert isinstance(SHAPE.read(np.zeros((steps, 7))), np.ndarray)


def test_array_subclasses_are_refused_because_they_may_hide_numbers() -> None:
    masked = np.ma.masked_array(np.zeros((3, 7)), mask=True)
    assert isinstance(SHAPE.read(masked), RuleResult)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_where_it_stands(bad: float) -> None:
    actions = np.zeros((4, 7), dtype=np.float32)
    actions[2, 5] = bad
    result = Finite().evaluate(evidence_of(actions))
    assert (result.status, result.score, result.at) == (RuleStatus.REJECTED, 0, (2, 5))


def test_a_million_is_the_largest_number() -> None:
    actions = np.zeros((4, 7), dtype=np.float32)
    actions[3, 1] = -MAGNITUDE_MAX
    assert Magnitude().evaluate(evidence_of(actions)).status is RuleStatus.PASSED
    actions[3, 1] = np.nextafter(np.float32(-MAGNITUDE_MAX), np.float32(-np.inf))
    result = Magnitude().evaluate(evidence_of(actions))
    assert (result.status, result.value, result.limit, result.at) == (RuleStatus.REJECTED, 1_000_000.0625, 1e6, (3, 1))


def _found(rule_id: str, value: float, status: RuleStatus) -> RuleResult:
    return RuleResult(id=rule_id, status=status, score=0.0, value=value, limit=1.0, at=(4, None))


def test_the_worst_watched_rule_names_the_unit_suspicion() -> None:
    suspect = UnitSuspect(watched=frozenset({"one", "two"}))
    result = suspect.judge([_found("one", 20.0, RuleStatus.REJECTED), _found("two", 57.3, RuleStatus.REJECTED)])
    assert (result.status, result.value, result.limit, result.at) == (RuleStatus.REJECTED, 57.3, 5.0, (4, None))
    assert result.message is not None
    assert result.message.startswith("two is at 57.3 times its limit at step 4")


def test_rules_that_are_not_watched_or_only_clamped_raise_no_suspicion() -> None:
    suspect = UnitSuspect(watched=frozenset({"one"}))
    found = [_found("other", 20.0, RuleStatus.REJECTED), _found("one", 4.9, RuleStatus.CLAMPED)]
    assert suspect.judge(found).status is RuleStatus.PASSED
