"""The outermost wall of the web process, one for all doors: an id on every answer, every failure in one shape, one log line.

Pure ASGI, because it stands on the hot path. What nobody mapped becomes `internal_error` with the request id and nothing else;
its traceback goes to the log. Counts and times every request, on HTTP or on a socket; knows no door.
"""

from collections.abc import Awaitable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from control_plane.drain import Drain
from control_plane.errors import ApiError, error_body, error_headers
from control_plane.identity.address import note_call
from control_plane.inference.account import CANCELLED
from control_plane.inference.body import ClientGone
from control_plane.inference.trace import Trace
from control_plane.metrics import Metrics
from control_plane.tallies import Counts, Distributions

_T = TypeVar("_T")

TRACE = "vla.trace"
OTHER = "other"
CLIENT_GONE = "client_gone"
_UNCOUNTED = frozenset({"contract", "total"})  # some 30 µs, and what vla_request_duration_seconds has already
_QUIET = frozenset({"/health", "/healthz", "/ready", "/metrics"})  # asked every few seconds by machines


def trace_of(scope: Scope) -> Trace:
    """The trace that the doorway opened for this request."""
    trace: Trace = scope[TRACE]
    return trace


class Register:
    """What is said, counted and logged about each request, whatever it came by."""

    def __init__(self, *, metrics: Metrics, log: FilteringBoundLogger, errors_url: str, drain: Drain | None = None) -> None:
        self.drain = drain or Drain()
        self.log = log
        self._errors_url = errors_url
        tallies = metrics.tallies
        self._durations = Distributions(metrics.request_duration, tallies)
        self._counts = Counts(metrics.requests, tallies)
        self._stages = Distributions(metrics.stage_duration, tallies)

    async def outcome(self, trace: Trace, work: Awaitable[_T]) -> _T | ApiError:
        """What came of it. Anything that nobody mapped is `internal_error`; a cancellation goes on its way."""
        try:
            return await work
        except ApiError as error:
            trace.outcome = error.kind.code
            return error
        except ClientGone:
            raise
        except Exception:
            self.log.exception("unmapped_failure", request_id=trace.public_id)
            trace.outcome = "internal_error"
            return ApiError("internal_error")

    def body(self, trace: Trace, error: ApiError) -> dict[str, Any]:
        """The error as the caller sees it."""
        return error_body(error, request_id=trace.public_id, errors_url=self._errors_url)

    def report(self, trace: Trace, *, route: str, method: str, status: int) -> None:
        """Counts, times and logs a request that is over."""
        duration_ms = trace.total_ms()
        self._durations[route, trace.policy].observe(duration_ms / 1e3)
        self._counts[route, trace.policy, trace.outcome].inc()
        for stage, spent_ms in trace.stages_ms.items():
            if stage not in _UNCOUNTED:
                self._stages[stage,].observe(spent_ms / 1e3)
        write = self.log.debug if route in _QUIET and status < 400 else self.log.info
        write(
            "request",
            request_id=trace.public_id,
            route=route,
            method=method,
            status=status,
            outcome=trace.outcome,
            policy=trace.policy,
            customer_id=trace.customer_id,
            duration_ms=round(duration_ms, 3),
        )


class Doorway:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, *, register: Register) -> None:
        self._app = app
        self._register = register

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        note_call(scope)
        if scope["type"] != "http":  # a socket's door reports each of its requests itself
            await self._app(scope, receive, send)
            return
        trace = scope[TRACE] = Trace(outcome=CANCELLED)
        reply = _Reply(send, trace, self._register.drain.farewell)
        try:
            failure = await self._register.outcome(trace, self._app(scope, receive, reply.send))
            if failure is not None:
                await self._answer(reply, failure)
            elif trace.outcome is CANCELLED:
                trace.outcome = "success" if reply.status < 400 else str(reply.status)
        except ClientGone:
            trace.outcome = CLIENT_GONE
        finally:
            route = getattr(scope.get("route"), "path", OTHER)
            self._register.report(trace, route=route, method=scope["method"], status=reply.status)

    async def _answer(self, reply: "_Reply", error: ApiError) -> None:
        if reply.status == 0:
            body = self._register.body(reply.trace, error)
            await reply.send_json(error.kind.status, msgspec.json.encode(body), error_headers(error))


class _Reply:
    """The way out: puts the request id on whatever answer goes by and remembers its status."""

    def __init__(self, send: Send, trace: Trace, farewell: Sequence[tuple[bytes, bytes]]) -> None:
        self.trace = trace
        self._farewell = farewell
        self.status = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = (b"x-request-id", self.trace.public_id.encode())
            message["headers"] = [*message.get("headers", ()), own, *self._farewell]
        await self._send(message)

    async def send_json(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": json_headers(body, headers)})
        await self.send({"type": "http.response.body", "body": body})


def json_headers(body: bytes, extra: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers of a JSON answer, as ASGI wants them."""
    return headers_of(body, b"application/json", extra)


def headers_of(body: bytes, content_type: bytes, extra: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, as ASGI wants them."""
    return [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        *[(_field(name), value.encode()) for name, value in extra.items()],
    ]


@cache
def _field(name: str) -> bytes:
    """A header's name as it goes out; the names are ours, so they are few."""
    return name.lower().encode()
