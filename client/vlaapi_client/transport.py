"""What both clients ask of httpx: one connection kept warm, nothing followed, nothing from the environment, bounded answers.

Every httpx exception becomes a Lost here; a test goes through all of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import urlsplit

import httpx

from vlaapi_client.calls import Call
from vlaapi_client.exchange import Lost, Reply

VERSION = "0.1.0"
ANSWER_BYTES_MAX = 16_000_000
# Longer than any pause of a robot; nginx closes after its own 75 s, which httpx notices before the next use.
LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=600.0)


def base_url(url: str) -> str:
    """Without a slash at the end. Raises ValueError for what is no http address."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"not an address of a service: {url!r}; write it as https://host or http://host:8080")
    return url.rstrip("/")


def headers_for(key: str) -> Mapping[str, str]:
    """What every request carries. Raises ValueError for a key that cannot be one."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the key is empty or has characters that no key has")
    return {"Authorization": f"Bearer {key}", "User-Agent": f"vlaapi-client/{VERSION}", "Accept": "application/json"}


class Live(dict):  # type: ignore[type-arg]  # httpx reads it as an untyped dict
    """httpx's time-outs, but of what is left now: httpcore asks at the start of each phase, and all phases share one deadline."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._ends_s = time.monotonic() + timeout_s

    def get(self, _name: str, _default: object = None) -> float:
        """Seconds left, for any phase."""
        return self.left_s()

    def left_s(self) -> float:
        """Seconds left, never none at all: httpcore takes 0 for an error of its own."""
        return max(0.001, self._ends_s - time.monotonic())

    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._ends_s


def request_of(client: httpx.Client | httpx.AsyncClient, call: Call[object], live: Live) -> httpx.Request:
    """The request, its time-outs alive."""
    request = client.build_request(call.method, call.path, headers=dict(call.headers), content=call.body)
    request.extensions["timeout"] = live
    return request


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """The answer as a value."""
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def lost(error: Exception) -> Lost:
    """What an exception of httpx means."""
    if isinstance(error, httpx.TimeoutException):
        return Lost("the time is over", is_late=True)
    return Lost(f"no answer of the service ({type(error).__name__}: {error})")


def refuse_size() -> NoReturn:
    """An answer that no service of ours sends."""
    raise httpx.DecodingError(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
