"""Every error of the service lands in the group that its robot action names, and nothing unknown becomes motion."""

import inspect
import json

import httpx
import pytest

from control_plane.errors import ERRORS, ApiError, error_body, error_headers
from vlaapi_client import errors, transport
from vlaapi_client.errors import ConnectionLost, Continue, Hold, Stop, VlaError, error_from
from vlaapi_client.exchange import Lost

GROUPS: dict[str, type[VlaError]] = {"hold": Hold, "continue": Continue, "stop": Stop}


def told(**changes: object) -> bytes:
    error = {"type": "unavailable", "code": "overloaded", "message": "m", "param": None, "request_id": "inf_1"}
    return json.dumps({"error": error | {"is_retryable": True, "retry_after_ms": 250, "robot_action": "hold"} | changes}).encode()


@pytest.mark.parametrize("kind", ERRORS.values(), ids=lambda kind: kind.code)
def test_every_code_of_the_service_lands_in_the_group_of_its_robot_action(kind: object) -> None:
    row = ERRORS[kind.code]  # type: ignore[attr-defined]  # pytest hands rows through as objects
    made = ApiError(row.code, param="state[3]", retry_after_ms=1250)
    body = json.dumps(error_body(made, request_id="inf_1", errors_url="https://x/errors")).encode()
    error = error_from(row.status, body, error_headers(made))
    assert isinstance(error, GROUPS[row.robot_action.value])
    assert error.robot_action == row.robot_action.value
    assert (error.code, error.message, error.param) == (row.code, made.message, "state[3]")
    assert (error.request_id, error.retry_after_s, error.status) == ("inf_1", 1.25, row.status)
    assert error.is_retryable == row.is_retryable
    if row.robot_action == "hold":
        assert isinstance(error, errors.RetryAfter) == row.is_retryable


def test_a_code_of_tomorrow_follows_its_robot_action_and_an_unknown_action_stops() -> None:
    assert type(error_from(503, told(code="tomorrow", robot_action="hold"), {})) is errors.Unavailable
    assert type(error_from(422, told(code="tomorrow", robot_action="stop"), {})) is Stop
    assert type(error_from(409, told(code="superseded", robot_action="continue"), {})) is errors.Superseded
    assert type(error_from(503, told(code="tomorrow", robot_action="dance"), {})) is Stop
    assert type(error_from(503, told(robot_action=None), {})) is Stop


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"error": "x"}', b'{"error": {}}', b"\xff", b"[" * 100_000])
def test_what_is_not_the_services_own_words_holds(body: bytes) -> None:
    assert type(error_from(502, body, {"retry-after": "3"})) is errors.Unavailable
    assert error_from(502, body, {"retry-after": "3"}).retry_after_s == 3.0
    assert type(error_from(413, body, {})) is errors.InvalidRequest
    assert type(error_from(500, body, {})) is errors.ServiceFault
    assert type(error_from(407, body, {})) is errors.NotAllowed
    assert type(error_from(308, body, {})) is errors.InvalidRequest


@pytest.mark.parametrize("wait", ["soon", -1, True, float("inf"), [], None])
def test_a_wait_that_is_none_is_none(wait: object) -> None:
    assert error_from(503, told(retry_after_ms=wait), {"retry-after": "soon"}).retry_after_s is None


def test_what_was_too_late_says_by_how_much() -> None:
    late = error_from(504, told(code="deadline_exceeded", type="timeout", late_by_ms=12), {})
    assert isinstance(late, errors.DeadlineExceeded)
    assert late.late_by_ms == 12


def test_an_error_says_everything_in_one_line() -> None:
    assert str(error_from(429, told(code="minute_limit", param="x"), {})) == "minute_limit (x): m; again in 0.25 s [inf_1]"


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    drawn = inspect.getdoc(errors) or ""
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, VlaError)]
    for one in classes:
        (line,) = [line for line in drawn.splitlines() if f" {one.__name__} " in f" {line} ".replace("─", " ")][:1]
        depth = line.index(one.__name__) // 4
        assert depth == len([base for base in one.__mro__ if issubclass(base, VlaError)]), one


def test_every_exception_of_httpx_becomes_a_loss() -> None:
    for name in dir(httpx):
        one = getattr(httpx, name)
        if inspect.isclass(one) and issubclass(one, httpx.TransportError | httpx.DecodingError | httpx.TooManyRedirects):
            found = transport.lost(one("what it says"))
            assert isinstance(found, Lost)
            assert found.is_late == issubclass(one, httpx.TimeoutException)
    assert issubclass(ConnectionLost, Hold)
