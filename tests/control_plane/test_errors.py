"""One shape for every error, and headers that say when to come back."""

import pytest

from control_plane.errors import ERRORS, ApiError, error_body, error_headers


def test_the_body_has_exactly_the_documented_fields() -> None:
    error = ApiError("invalid_state", "state has 7 numbers.", param="state")
    assert error_body(error, request_id="inf_1", errors_url="https://x/errors") == {
        "error": {
            "type": "invalid_request",
            "code": "invalid_state",
            "message": "state has 7 numbers.",
            "param": "state",
            "request_id": "inf_1",
            "doc_url": "https://x/errors#invalid_state",
            "is_retryable": False,
            "retry_after_ms": None,
            "robot_action": "hold",
        }
    }


@pytest.mark.parametrize(("retry_after_ms", "seconds"), [(1, "1"), (250, "1"), (1000, "1"), (1001, "2"), (59_999, "60")])
def test_the_wait_is_told_in_whole_seconds_rounded_up(retry_after_ms: int, seconds: str) -> None:
    assert error_headers(ApiError("overloaded", retry_after_ms=retry_after_ms)) == {"Retry-After": seconds}


def test_a_header_that_was_given_stands() -> None:
    error = ApiError("minute_limit", retry_after_ms=10, headers={"Retry-After": "7", "RateLimit": "r=0"})
    assert error_headers(error) == {"Retry-After": "7", "RateLimit": "r=0"}


def test_without_a_wait_there_is_no_header() -> None:
    assert error_headers(ApiError("invalid_body")) == {}


def test_what_the_caller_can_fix_is_not_worth_a_retry_and_what_we_shed_is() -> None:
    for kind in ERRORS.values():
        if kind.type == "unavailable":
            assert kind.is_retryable, kind.code
        if kind.status in {400, 404, 405, 413, 415, 422, 401, 403}:
            assert not kind.is_retryable, kind.code
