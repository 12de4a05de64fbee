"""What both streams say and hear on a socket, and how long they wait to try again. Knows neither threads nor an event loop."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from typing import Any

import msgpack
from websockets.exceptions import InvalidStatus

from vlaapi_client import transport
from vlaapi_client.errors import ConnectionLost, DeadlineExceeded, Refused, ServiceFault, VlaError, error_from, error_of
from vlaapi_client.results import Answer, answer_of

PATH = "/v1/stream"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class BackOff:
    """After each failure in a row twice the pause, up to five seconds, with jitter; a success forgets them."""

    def __init__(self) -> None:
        self._failures, self._not_before_s = 0, float("-inf")

    def check(self) -> None:
        """Raises ConnectionLost while it is too early to try again."""
        left_s = self._not_before_s - time.monotonic()
        if left_s > 0:
            raise lost("the service was not reached a moment ago", retry_after_s=round(left_s, 3))

    def failed(self) -> None:
        """One more."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures) * (0.75 + random.random() / 2)  # noqa: S311 -- jitter
        self._failures, self._not_before_s = self._failures + 1, time.monotonic() + pause_s

    def succeeded(self) -> None:
        """Forgotten."""
        self._failures = 0


def address(url: str) -> str:
    """Where the socket is, of a service's address."""
    return transport.base_url(url).replace("http", "ws", 1) + PATH


def options(headers: Mapping[str, str], ssl: Any, timeout_s: float) -> dict[str, Any]:
    """What both kinds of `connect` are told."""
    sent = dict(headers)
    told: dict[str, Any] = {} if ssl is None else {"ssl": ssl}
    told |= {"user_agent_header": sent.pop("User-Agent"), "max_size": transport.ANSWER_BYTES_MAX}
    return {**told, "additional_headers": sent, "open_timeout": timeout_s, "compression": None, "proxy": None}


def question(number: int, request: Mapping[str, Any], parts: Mapping[str, bytes]) -> bytes:
    """One frame with its question."""
    named = {name[len("images.") :]: data for name, data in parts.items() if name.startswith("images.")}
    first = {"image": parts["image"]} if "image" in parts else {}
    message = {"id": number, "request": {**request, **first, **({"images": named} if named else {})}}
    packed: bytes = msgpack.packb(message)
    return packed


def told_by(message: bytes | str) -> dict[str, Any]:
    """A message as an object. Raises ServiceFault."""
    try:
        told = msgpack.unpackb(message) if isinstance(message, bytes) else json.loads(message)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise ServiceFault("unreadable_answer", "a message of the service cannot be read") from None
    if not isinstance(told, dict):
        raise ServiceFault("unreadable_answer", "a message of the service is no object")
    return told


def number_of(told: Mapping[str, Any]) -> int:
    """Which question a reply is for; -1 where it does not say."""
    number = told.get("id")
    return number if isinstance(number, int) else -1


def answered(told: Any, round_trip_ms: float) -> Answer:
    """The answer in a reply. Raises what it tells instead."""
    if isinstance(told, VlaError):
        raise told
    if isinstance(told.get("error"), dict):
        error = error_of(told["error"], 0, {})
        if isinstance(error, Refused):
            error.fallback = told.get("fallback")
        raise error
    return answer_of(told.get("answer") or {}, {}, round_trip_ms)


def turned_away(refused: InvalidStatus) -> VlaError:
    """The error in the answer to a handshake."""
    response = refused.response
    told = {name.lower(): value for name, value in response.headers.raw_items()}
    return error_from(response.status_code, bytes(response.body or b""), told)


def too_late(deadline_ms: int) -> DeadlineExceeded:
    """Nobody answered in time."""
    message = f"no answer within {deadline_ms} ms; gave up waiting here"
    return DeadlineExceeded("deadline_exceeded", message, param="deadline_ms", is_retryable=True)


def lost(why: str, retry_after_s: float | None = None) -> ConnectionLost:
    """The socket is gone, or was never there."""
    return ConnectionLost("connection_lost", why, is_retryable=True, retry_after_s=retry_after_s)


def unreached(error: Exception) -> ConnectionLost:
    """A handshake that failed below HTTP."""
    return lost(f"no answer of the service ({type(error).__name__}: {error})")


def broken(error: Exception) -> ConnectionLost:
    """A socket that broke in use."""
    return lost(how_broken(error))


def how_broken(error: Exception) -> str:
    """The same in words, for several who wait: each of them gets an error of its own."""
    return f"the socket broke ({type(error).__name__}: {error})"
