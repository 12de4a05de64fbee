"""An answer is a motion that a robot can execute, or an error; there is nothing between."""

import json
from typing import Any

import numpy as np
import pytest

from tests.client.making import HEADERS, answer, told
from vlaapi_client.errors import Refused, ServiceFault
from vlaapi_client.results import answer_from


def read(whole: Any) -> Any:
    return answer_from(json.dumps(whole).encode(), HEADERS, 12.5)


def test_an_answer_is_whole_and_frozen() -> None:
    found = answer([[0.1] * 7, [0.2] * 7])
    assert found.action.chunk.shape == (2, 7)
    assert found.action.chunk.dtype == np.float32
    assert (found.action.values == found.action.chunk[0]).all()
    with pytest.raises(ValueError, match="read-only"):
        found.action.values[0] = 1.0
    assert (found.timings.round_trip_ms, found.timings.network_ms) == (7.0, 2.0)
    assert (found.rate_limit.limit, found.rate_limit.remaining, found.rate_limit.full_in_s) == (100, 99, 1)
    assert found.usage.minute == 9


@pytest.mark.parametrize("decision", ["reject", "tomorrow", ""])
def test_a_refusal_or_an_unknown_decision_is_raised_and_carries_the_answer(decision: str) -> None:
    fallback = {"type": "hold", "values": [0.0] * 7, "is_safe_state": False}
    with pytest.raises(Refused) as refused:
        read(told([], decision=decision, fallback=fallback, refused_for="motion", expires_in_ms=None))
    assert refused.value.answer is not None
    assert refused.value.fallback == refused.value.answer.fallback == fallback
    assert refused.value.answer.action.chunk.shape == (0, 7)
    assert refused.value.answer.action.values.size == 0
    assert refused.value.robot_action == "hold"
    assert refused.value.request_id == "inf_1"
    assert "B1.ee_linear_speed" in str(refused.value)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[0.0] * 6],
        [[0.0] * 7, [0.0] * 6],
        [[0.0] * 6 + [None]],
        [[0.0] * 6 + ["1"]],
        [[0.0] * 6 + [True]],
        [[0.0] * 6 + [1e300]],
        [[[0.0]] * 7],
        {"a": 1},
        "rows",
        7,
    ],
)
def test_numbers_that_no_robot_can_execute_are_our_fault(rows: Any) -> None:
    with (
        pytest.warns(RuntimeWarning) if "1e+300" in str(rows) else _nothing(),
        pytest.raises(ServiceFault, match="cannot be used"),
    ):
        read(told(rows) if isinstance(rows, list) else {**told(), "action": {**told()["action"], "chunk": rows}})


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_have_is_not_read(token: str) -> None:
    body = json.dumps(told([[0.125] * 7])).replace("0.125", token).encode()
    with pytest.raises(ServiceFault):
        answer_from(body, HEADERS, 1.0)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"safety": 1}'])
def test_anything_else_is_our_fault_with_the_request_id(body: bytes) -> None:
    with pytest.raises(ServiceFault) as fault:
        answer_from(body, HEADERS, 1.0)
    assert fault.value.request_id == "inf_1"


def test_a_refusal_that_comes_with_numbers_is_not_believed() -> None:
    with pytest.raises(ServiceFault):
        read(told([[0.1] * 7], decision="reject"))


@pytest.mark.parametrize("hz", [0, -1, float("nan")])
def test_a_rate_is_a_rate(hz: float) -> None:
    with pytest.raises(ServiceFault):
        read(told(hz=hz))


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()
