"""The JSON that customers read: frozen per decision, finite, and never kinder than the verdict."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.verdict import Decision, Fallback
from safety.wire import fallback_json, verdict_json
from tests.safety.factories import LINEAR_STEP_M, chunk, panda_guard
from tests.safety.golden_verdicts import FOLDER, golden_verdicts, render

MANY = settings(max_examples=200, deadline=None, derandomize=True)
GUARD = panda_guard(step_max=0.5)
SAFETY_KEYS = [
    "decision",
    "overall_score",
    "limiting_rule",
    "score_is_upper_bound",
    "coverage",
    "rules",
    "profile",
    "guard_version",
    "certified",
]


def test_every_golden_verdict_reads_as_frozen() -> None:
    found = golden_verdicts()
    assert {path.stem for path in FOLDER.glob("*.json")} == set(found)
    for name, answer in found.items():
        assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == render(answer), name


def test_every_decision_is_frozen() -> None:
    assert {answer["safety"]["decision"] for answer in golden_verdicts().values()} == {str(decision) for decision in Decision}


def test_the_safety_object_has_exactly_these_keys_and_is_never_certified() -> None:
    answer = verdict_json(GUARD.check(chunk()))
    assert list(answer) == SAFETY_KEYS
    assert answer["certified"] is False
    assert answer["score_is_upper_bound"] is True


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    return [leaf for inner in value for leaf in _leaves(inner)] if isinstance(value, list) else [value]


@MANY
@given(st.sampled_from([0.0, 0.0312, 0.05, 0.2, 5.0, 1e7, 3e38, np.nan, np.inf]), st.floats(-3, 3), st.integers(1, 9))
def test_only_plain_json_types_leave_and_they_survive_a_strict_round_trip(x: float, gripper: float, steps: int) -> None:
    raw = chunk(steps, gripper=gripper)
    raw[0, 0] = x
    answer = verdict_json(GUARD.check(raw))
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert {type(leaf) for leaf in _leaves(answer)} <= {str, int, float, bool, type(None)}


@MANY
@given(st.floats(1e-6, 0.15), st.floats(1e-6, 0.7))
def test_rounding_changes_neither_decision_nor_comparison(x: float, rz: float) -> None:
    raw = chunk(4)
    raw[1, 0], raw[1, 5] = x, rz
    verdict = GUARD.check(raw)
    answer = verdict_json(verdict)
    assert answer["overall_score"] <= verdict.overall_score
    assert (answer["overall_score"] == 0) == (verdict.decision is Decision.REJECT)
    assert (answer["overall_score"] >= 0.5) == (verdict.decision is Decision.PASS)
    for row in answer["rules"]:
        if row["id"] in {"B1.ee_linear_speed", "B2.ee_angular_speed"} and "value" in row:
            assert (row["value"] > row["limit"]) == (row["status"] in {"clamped", "rejected"})


def test_a_value_one_float_above_its_limit_reads_as_above_it() -> None:
    raw = chunk()
    raw[2, 0] = np.nextafter(np.float32(LINEAR_STEP_M), np.float32(1))
    answer = verdict_json(GUARD.check(raw))
    row = next(row for row in answer["rules"] if row["id"] == "B1.ee_linear_speed")
    assert row["value"] > row["limit"] == 0.25
    assert answer["overall_score"] == row["score"] == 0.4999


def test_a_rule_that_did_not_look_has_a_null_score_and_a_reason_and_nothing_else() -> None:
    rows = {row["id"]: row for row in verdict_json(GUARD.check(chunk()))["rules"]}
    assert rows["D0.state_valid"] == {"id": "D0.state_valid", "status": "not_evaluated", "score": None, "reason": "no_state"}


def test_a_hold_without_values_stays_null() -> None:
    hold = Fallback(type="hold", values=None)
    assert fallback_json(hold) == {"type": "hold", "values": None, "is_safe_state": False}


def test_what_is_the_same_in_every_verdict_is_written_once_and_reads_as_if_it_were_new() -> None:
    first, second = GUARD.check(chunk()), GUARD.check(chunk())
    rows, again = verdict_json(first)["rules"], verdict_json(second)["rules"]
    assert rows == again == verdict_json(replace(second, rules=tuple(replace(result) for result in second.rules)))["rules"]
    kept = [row is other for row, other in zip(rows, again, strict=True)]
    assert kept == [result is other for result, other in zip(first.rules, second.rules, strict=True)]
    assert sum(kept) > len(kept) / 2


def test_a_changed_result_is_written_anew() -> None:
    result = GUARD.check(chunk()).rules[0]
    verdict = GUARD.check(chunk())
    verdict_json(replace(verdict, rules=(result,)))
    (row,) = verdict_json(replace(verdict, rules=(replace(result, message="other"),)))["rules"]
    assert row["message"] == "other"
