"""Everything that can go wrong, grouped by what the robot should do about it.

    VlaError                        whatever this package raises on purpose; never a bare httpx or socket error
    ├── Hold                        hold the last pose and go on asking
    │   ├── RetryAfter              the same request can succeed later: wait `retry_after_s`
    │   │   ├── RateLimited         too many requests in this minute, or too many at once
    │   │   ├── Unavailable         the service or the model is away or full
    │   │   ├── DeadlineExceeded    the answer would have come, or did come, too late
    │   │   └── ConnectionLost      no answer at all
    │   ├── Refused                 the action guard let no motion through; `answer` says why
    │   ├── QuotaUsedUp             the limit of the day or month, or a spend cap
    │   ├── InvalidRequest          this request is wrong; the program has to change it
    │   └── ServiceFault            the service's own fault; tell its operator the `request_id`
    ├── Continue                    nothing is wrong; go on with the motion you have
    │   └── Superseded              a newer observation of yours took the place of this one
    └── Stop                        no request of this kind will be answered until a person has changed something
        └── NotAllowed              the key or the account

Codes that this version does not know fall into the group that `robot_action` names; a robot action it does not know is a Stop.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlaapi_client.rate_limit import RateLimit, rate_limit_from

if TYPE_CHECKING:
    from vlaapi_client.results import Answer

_SHUT = frozenset({401, 403, 407})  # a door that a person has to open, whoever's it is
_MAY_PASS = {429: "rate_limit", 502: "unavailable", 503: "unavailable", 504: "timeout"}


class VlaError(Exception):
    """A request that brought no motion. `code` is stable (see the service's `/errors`), `message` is for people."""

    robot_action = "hold"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        status: int | None = None,
        is_retryable: bool = False,
        rate_limit: RateLimit | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.param = param
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.status = status
        self.is_retryable = is_retryable
        self.rate_limit = rate_limit
        super().__init__(code, message)

    def __str__(self) -> str:
        where = f" ({self.param})" if self.param else ""
        wait = "" if self.retry_after_s is None else f"; again in {self.retry_after_s:g} s"
        asked = f" [{self.request_id}]" if self.request_id else ""
        return f"{self.code}{where}: {self.message}{wait}{asked}"


class Hold(VlaError):
    """Hold the last pose and go on asking."""


class RetryAfter(Hold):
    """The same request can succeed later. `retry_after_s` is None when nobody knows when."""


class RateLimited(RetryAfter):
    """Too many requests in this minute, or too many at once."""


class Unavailable(RetryAfter):
    """The service or the model is away or full."""


class DeadlineExceeded(RetryAfter):
    """Too late. `status` is None when the wait ended here, without an answer of the service, which else says `late_by_ms`."""

    late_by_ms: float | None = None


class ConnectionLost(RetryAfter):
    """No answer: refused, reset, closed, unreachable, or a name or certificate that does not hold."""


class Refused(Hold):
    """The action guard let no motion through. `answer.verdict` says why, `fallback` what holding means.

    `answer` is None where the service sends none with a refusal, as on a WebSocket; `param` names the rule there too.
    """

    answer: Answer | None = None
    fallback: Mapping[str, Any] | None = None


class QuotaUsedUp(Hold):
    """Nothing more for today or this month."""


class InvalidRequest(Hold):
    """The request is wrong and stays wrong; `param` names the field. Also raised here, before anything is sent."""


class ServiceFault(Hold):
    """The service failed, or answered with something that is not an answer."""


class Continue(VlaError):
    """Nothing is wrong: go on with the motion you have."""

    robot_action = "continue"


class Superseded(Continue):
    """A newer observation of the same session took the place of this one."""


class Stop(VlaError):
    """Stop the robot: a person has to change something before any such request is answered."""

    robot_action = "stop"


class NotAllowed(Stop):
    """The key is wrong, revoked or expired, or the account is off."""


def error_from(status: int, body: bytes, headers: Mapping[str, str]) -> VlaError:
    """The error that an answer other than 2xx stands for, whoever wrote it: the service, or something in between."""
    told = _told(body)
    if told is None:
        kind, request_id = _MAY_PASS.get(status, ""), headers.get("x-request-id")
        if status in _SHUT:
            found: type[VlaError] = NotAllowed
        else:
            found = _class_of(kind, "", status, is_retryable=bool(kind), robot_action="hold")
        message = f"HTTP {status} without an error of the service; something in between answered"
        wait_s = _seconds(headers.get("retry-after"))
        return found(
            f"http_{status}", message, request_id=request_id, retry_after_s=wait_s, status=status, is_retryable=bool(kind)
        )
    return error_of(told, status, headers)


def error_of(told: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> VlaError:
    """The error that the service's own words stand for. `status` is 0 where there is none, as on a WebSocket."""
    code, is_retryable = str(told.get("code")), told.get("is_retryable") is True
    wait_s = _from_ms(told.get("retry_after_ms"))
    kind, action = str(told.get("type")), str(told.get("robot_action"))
    error = _class_of(kind, code, status, is_retryable=is_retryable, robot_action=action)(
        code,
        str(told.get("message")),
        param=_text(told.get("param")),
        request_id=_text(told.get("request_id")) or headers.get("x-request-id"),
        retry_after_s=_seconds(headers.get("retry-after")) if wait_s is None else wait_s,
        status=status or None,
        is_retryable=is_retryable,
        rate_limit=rate_limit_from(headers),
    )
    if isinstance(error, DeadlineExceeded) and isinstance(told.get("late_by_ms"), (int, float)):
        error.late_by_ms = told["late_by_ms"]
    return error


def _class_of(kind: str, code: str, status: int, *, is_retryable: bool, robot_action: str) -> type[VlaError]:
    if robot_action == "continue":
        return Superseded if code == "superseded" else Continue
    if robot_action != "hold":
        return NotAllowed if kind == "authentication" else Stop
    if code == "motion_refused":
        return Refused
    if kind == "timeout":
        return DeadlineExceeded
    if kind == "rate_limit":
        return RateLimited if is_retryable else QuotaUsedUp
    if is_retryable:
        return Unavailable if kind == "unavailable" else RetryAfter
    return ServiceFault if status >= 500 or kind == "internal" else InvalidRequest


def _told(body: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return told if isinstance(told, dict) and isinstance(told.get("code"), str) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _from_ms(value: object) -> float | None:
    is_time = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
    return float(value) / 1e3 if is_time else None  # type: ignore[arg-type]  # a number, as the line above found


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
