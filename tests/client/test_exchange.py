"""When a call is repeated, how long it waits, and when it gives up: decided without a transport."""

import json
from typing import Any

import pytest

from tests.client.making import FRAME, HEADERS, told
from vlaapi_client.calls import Call, Defaults, inference
from vlaapi_client.errors import ConnectionLost, DeadlineExceeded, InvalidRequest, RateLimited, Refused, Stop, Unavailable
from vlaapi_client.exchange import Lost, Outcome, Pause, Reply, Retry, Send, exchange
from vlaapi_client.pictures import Encoding
from vlaapi_client.results import Answer

GOOD = Reply(200, HEADERS, json.dumps(told()).encode())
DEFAULTS = Defaults(deadline_ms=1000, encoding=Encoding(90))


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def error(status: int, *, code: str = "overloaded", type_: str = "unavailable", retry: bool = True, **rest: Any) -> Reply:
    body = {"code": code, "type": type_, "message": "m", "is_retryable": retry, "robot_action": "hold", **rest}
    return Reply(status, HEADERS, json.dumps({"error": body}).encode())


def run(
    call: Call[Answer], outcomes: list[tuple[Outcome, float]], *, chance: float = 0.0, attempts: int = 3
) -> tuple[Any, list[Any]]:
    """Drives the generator; each outcome takes so many seconds. Gives the result or the error, and the steps."""
    clock, waiting = Clock(), list(outcomes)
    steps: list[Any] = []
    driven = exchange(call, Retry(attempts=attempts, clock=clock, chance=lambda: chance))
    outcome: Outcome = None
    while True:
        try:
            step = driven.send(outcome)
        except StopIteration as done:
            return done.value, steps
        except Exception as failure:  # noqa: BLE001 -- whatever it raises is what the test looks at
            return failure, steps
        steps.append(step)
        if isinstance(step, Pause):
            clock.now_s, outcome = clock.now_s + step.seconds, None
        else:
            outcome, took_s = waiting.pop(0)
            clock.now_s += took_s


def call(**fields: Any) -> Call[Answer]:
    return inference(FRAME, "pick up red cube", fields, DEFAULTS, deadline_ms=1000)  # type: ignore[arg-type]  # any of Fields


def test_a_good_answer_is_sent_for_once_with_all_the_time() -> None:
    found, steps = run(call(), [(GOOD, 0.2)])
    assert found.timings.round_trip_ms == pytest.approx(200)
    assert steps == [Send(1.0)]


def test_what_may_pass_is_repeated_after_the_wait_that_was_named_with_jitter_and_less_time() -> None:
    found, steps = run(call(), [(error(503, retry_after_ms=100), 0.1), (GOOD, 0.1)], chance=1.0)
    assert isinstance(found, Answer)
    assert [getattr(step, "timeout_s", None) or step.seconds for step in steps] == pytest.approx([1.0, 0.125, 0.775])
    assert isinstance(steps[1], Pause)


def test_a_lost_connection_is_repeated_and_then_said() -> None:
    found, steps = run(call(), [(Lost("reset"), 0.0)] * 3)
    assert isinstance(found, ConnectionLost)
    assert [step for step in steps if isinstance(step, Pause)] == [Pause(0.05), Pause(0.1)]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(422, code="invalid_state", type_="invalid_request", retry=False), InvalidRequest),
        (error(401, code="unknown_key", type_="authentication", retry=False, robot_action="stop"), Stop),
        (Reply(500, {}, b"oops"), Exception),
    ],
)
def test_what_will_not_pass_is_not_repeated(reply: Reply, kind: type[Exception]) -> None:
    found, steps = run(call(), [(reply, 0.0)])
    assert isinstance(found, kind)
    assert len(steps) == 1


def test_a_wait_beyond_the_deadline_is_not_waited_for() -> None:
    found, steps = run(call(), [(error(429, code="minute_limit", type_="rate_limit", retry_after_ms=6000), 0.0)])
    assert isinstance(found, RateLimited)
    assert found.retry_after_s == 6.0
    assert len(steps) == 1


def test_time_that_is_over_here_is_said_to_be_over_here() -> None:
    found, steps = run(call(), [(Lost("slow", is_late=True), 1.0)])
    assert isinstance(found, DeadlineExceeded)
    assert found.status is None
    assert "1000 ms" in str(found)
    assert len(steps) == 1


def test_one_attempt_is_one_attempt() -> None:
    found, steps = run(call(), [(error(503), 0.0)], attempts=1)
    assert isinstance(found, Unavailable)
    assert steps == [Send(1.0)]


def test_a_refusal_as_an_error_still_carries_the_whole_answer() -> None:
    refused = told([], decision="reject", refused_for="motion", expires_in_ms=None)
    refused["error"] = {"code": "motion_refused", "type": "invalid_request", "robot_action": "hold", "is_retryable": False}
    found, steps = run(call(), [(Reply(422, HEADERS, json.dumps(refused).encode()), 0.0)])
    assert isinstance(found, Refused)
    assert found.answer is not None
    assert found.answer.verdict.decision == "reject"
    assert len(steps) == 1


def test_a_repetition_is_the_same_bytes_under_the_same_key_and_another_call_has_another() -> None:
    one, other = call(seq=1), call(seq=1)
    assert one.headers["Idempotency-Key"] != other.headers["Idempotency-Key"]
    assert b'"seq":1' in (one.body or b"")
    assert b'"deadline_ms":1000' in (one.body or b"")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"state": [0.0, float("nan")]}, "state[1]"),
        ({"state": [[0.0]]}, "state"),
        ({"state": ["a"]}, "state"),
        ({"obs_age_ms": float("inf")}, None),
        ({"safety": {"x": object()}}, None),
    ],
)
def test_what_is_wrong_already_is_not_sent(fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        call(**fields)
    assert wrong.value.param == param


@pytest.mark.parametrize("deadline_ms", [0, -5, 600_001])
def test_a_deadline_is_one(deadline_ms: int) -> None:
    with pytest.raises(InvalidRequest, match="deadline"):
        inference(FRAME, "go", {}, DEFAULTS, deadline_ms=deadline_ms)


def test_a_misspelt_field_is_a_type_error_as_for_any_function() -> None:
    with pytest.raises(TypeError, match="sate"):
        call(sate=[0.0])


def test_a_cameras_name_cannot_break_out_of_its_part() -> None:
    with pytest.raises(InvalidRequest):
        inference({'a"\r\n': FRAME}, "go", {}, DEFAULTS)
