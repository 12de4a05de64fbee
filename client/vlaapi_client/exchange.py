"""One call through all its attempts, without a transport: yields what to do next, is told what came of it, returns the result.

The rule: repeat only what the service calls retryable or what got no answer, only while the deadline leaves room for the wait,
and with a little jitter so that a fleet does not come back as one. Both clients drive this generator.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Callable, TypeVar, Union

from vlaapi_client.calls import Call
from vlaapi_client.errors import ConnectionLost, DeadlineExceeded, VlaError, error_from
from vlaapi_client.results import answer_from, is_refusal

T = TypeVar("T")

FIRST_WAIT_S = 0.05  # where nobody said how long
JITTER = 0.25  # of the wait, added
ROOM_S = 0.005  # less than this left is nothing left


@dataclass(frozen=True)
class Send:
    """Send the call's request; give up after `timeout_s`."""

    timeout_s: float


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Reply:
    """An answer, whatever it says. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Lost:
    """No answer. `is_late`: the time was over."""

    why: str
    is_late: bool = False


Step = Union[Send, Pause]
Outcome = Union[Reply, Lost, None]
Exchange = Generator[Step, Outcome, T]


@dataclass(frozen=True)
class Retry:
    """How often, by which clock (seconds), with which chance (0 to 1)."""

    attempts: int
    clock: Callable[[], float]
    chance: Callable[[], float]


def exchange(call: Call[T], retry: Retry) -> Exchange[T]:
    """Yields Send and Pause until there is a result or an error to raise."""
    started_s = retry.clock()
    ends_s = started_s + call.deadline_s
    for attempt in range(1, retry.attempts + 1):
        left_s = ends_s - retry.clock()
        if left_s < ROOM_S:
            raise late(call)
        outcome = yield Send(left_s)
        if isinstance(outcome, Reply) and 200 <= outcome.status < 300:
            return call.read(outcome.body, outcome.headers, 1e3 * (retry.clock() - started_s))
        error = _error(call, outcome, started_s, retry)
        wait_s = _wait_s(error, attempt, retry)
        is_last = attempt == retry.attempts or not error.is_retryable or not call.is_repeatable
        if is_last or retry.clock() + wait_s > ends_s - ROOM_S:
            raise error
        yield Pause(wait_s)
    raise AssertionError("the last attempt returns or raises")


def late(call: Call[T]) -> DeadlineExceeded:
    """Given up here."""
    message = f"no answer within {1e3 * call.deadline_s:g} ms; gave up waiting here"
    return DeadlineExceeded("deadline_exceeded", message, param="deadline_ms", is_retryable=True)


def _error(call: Call[T], outcome: Outcome, started_s: float, retry: Retry) -> VlaError:
    if isinstance(outcome, Reply):
        if call.read is answer_from and is_refusal(outcome.body):
            call.read(outcome.body, outcome.headers, 1e3 * (retry.clock() - started_s))  # raises Refused with the whole answer
        return error_from(outcome.status, outcome.body, outcome.headers)
    if outcome is None or outcome.is_late:
        return late(call)
    return ConnectionLost("connection_lost", outcome.why, is_retryable=True)


def _wait_s(error: VlaError, attempt: int, retry: Retry) -> float:
    wait_s = FIRST_WAIT_S * 2 ** (attempt - 1) if error.retry_after_s is None else error.retry_after_s
    return wait_s * (1 + JITTER * retry.chance())
