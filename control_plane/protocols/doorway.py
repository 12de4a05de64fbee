"""The outermost wall of the web process, one for all doors: an id on every answer, every failure in one shape, one log line.

Pure ASGI, because it stands on the hot path. What nobody mapped becomes `internal_error` with the request id and nothing else;
its traceback goes to the log. Counts and times every request; knows no door.
"""

from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError, error_body, error_headers
from control_plane.identity.address import note_call
from control_plane.inference.account import CANCELLED
from control_plane.inference.body import ClientGone
from control_plane.inference.trace import Trace
from control_plane.metrics import Metrics

TRACE = "vla.trace"
OTHER = "other"
CLIENT_GONE = "client_gone"
_UNCOUNTED = frozenset({"contract", "total"})  # some 30 µs, and what vla_request_duration_seconds has already
_QUIET = frozenset({"/health", "/ready", "/metrics"})  # asked every few seconds by machines


def trace_of(scope: Scope) -> Trace:
    """The trace that the doorway opened for this request."""
    trace: Trace = scope[TRACE]
    return trace


class Doorway:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, log: FilteringBoundLogger, errors_url: str) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log
        self._errors_url = errors_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        note_call(scope)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = scope[TRACE] = Trace(outcome=CANCELLED)
        reply = _Reply(send, trace)
        try:
            await self._app(scope, receive, reply.send)
            if trace.outcome is CANCELLED:
                trace.outcome = "success" if reply.status < 400 else str(reply.status)
        except ClientGone:
            trace.outcome = CLIENT_GONE
        except ApiError as error:
            await self._answer(reply, error)
        except Exception:  # noqa: BLE001 -- the outermost handler: whatever nobody mapped ends here, in the log
            self._log.exception("unmapped_failure", request_id=trace.public_id)
            await self._answer(reply, ApiError("internal_error"))
        finally:
            self._report(scope, trace, reply.status)

    async def _answer(self, reply: "_Reply", error: ApiError) -> None:
        reply.trace.outcome = error.kind.code
        if reply.status == 0:
            body = error_body(error, request_id=reply.trace.public_id, errors_url=self._errors_url)
            await reply.send_json(error.kind.status, msgspec.json.encode(body), error_headers(error))

    def _report(self, scope: Scope, trace: Trace, status: int) -> None:
        route = getattr(scope.get("route"), "path", OTHER)
        metrics, duration_ms = self._metrics, trace.total_ms()
        metrics.request_duration.labels(route, trace.policy).observe(duration_ms / 1e3)
        metrics.requests.labels(route, trace.policy, trace.outcome).inc()
        for stage, spent_ms in trace.stages_ms.items():
            if stage not in _UNCOUNTED:
                metrics.stage_duration.labels(stage).observe(spent_ms / 1e3)
        write = self._log.debug if route in _QUIET and status < 400 else self._log.info
        write(
            "request",
            request_id=trace.public_id,
            route=route,
            method=scope["method"],
            status=status,
            outcome=trace.outcome,
            policy=trace.policy,
            customer_id=None if trace.customer_id is None else str(trace.customer_id),
            duration_ms=round(duration_ms, 3),
        )


class _Reply:
    """The way out: puts the request id on whatever answer goes by and remembers its status."""

    def __init__(self, send: Send, trace: Trace) -> None:
        self.trace = trace
        self.status = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.trace.public_id.encode())]
        await self._send(message)

    async def send_json(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": json_headers(body, headers)})
        await self.send({"type": "http.response.body", "body": body})


def json_headers(body: bytes, extra: Any) -> list[tuple[bytes, bytes]]:
    """The headers of a JSON answer, as ASGI wants them."""
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in extra.items()),
    ]
