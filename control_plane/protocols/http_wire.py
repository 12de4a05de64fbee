"""What every HTTP door onto the pipeline does: reads the body within its bounds, hands the request on, writes the answer.

A raw ASGI endpoint: no framework code runs between body and pipeline. When the caller hangs up, the work for it is cancelled. How
requests and answers are written is the `Wire`'s business, which is made anew for each request.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
from starlette.types import Message, Receive, Scope, Send

from control_plane.errors import ApiError, error_body
from control_plane.inference.answer import Answer
from control_plane.inference.body import BodyLimits, ClientGone, read_body
from control_plane.inference.observation import Inquiry
from control_plane.inference.pipeline import Call, Pipeline
from control_plane.protocols.doorway import headers_of, trace_of
from safety.wire import fallback_json

JSON = b"application/json"
REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An answer as it goes out."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON


class Wire(Protocol):
    """How one request and its answer are written."""

    def read(self, body: bytes, headers: Mapping[bytes, bytes]) -> Inquiry:
        """What the body asks. Raises ApiError naming the field at fault."""

    def answer(self, answer: Answer) -> Written:
        """The answer, also of a motion that the guard refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceDoor:
    """The endpoint, an ASGI application of its own."""

    path: str
    wire: Callable[[], Wire]
    pipeline: Pipeline
    limits: BodyLimits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace, scope["route"] = trace_of(scope), self
        trace.route = self.path
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        caller, wire = _Caller(receive), self.wire()

        async def understand() -> Inquiry:
            body = await read_body(receive, headers, self.limits)
            caller.watch()
            return wire.read(body, headers)

        key = headers.get(b"authorization")
        call = Call(
            trace=trace,
            authorization=None if key is None else key.decode("latin-1"),
            parse=understand,
            data_policy=data_policy_of(headers),
        )
        try:
            answer = await self.pipeline.answer(call)
        except asyncio.CancelledError:
            caller.explain_cancellation()
            raise
        finally:
            caller.forget()
        await _send(answer, wire.answer(answer), send)
        trace.outcome = REFUSED if answer.is_refused else "success"


async def _send(answer: Answer, written: Written, send: Send) -> None:
    extra = {"Server-Timing": answer.trace.server_timing(), **answer.admission.headers()}
    headers = headers_of(written.body, written.content_type, extra)
    await send({"type": "http.response.start", "status": written.status, "headers": headers})
    await send({"type": "http.response.body", "body": written.body})


def data_policy_of(headers: Mapping[bytes, bytes]) -> str | None:
    """How little the caller wants kept of this request; judged by the pipeline."""
    value = headers.get(b"x-data-policy")
    return None if value is None else value.decode("latin-1")


def content_type_of(headers: Mapping[bytes, bytes]) -> str:
    """Without its parameters, in small letters."""
    return headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


def refusal(answer: Answer, *, errors_url: str) -> Written:
    """A refused motion as an error, for wires whose answers can say nothing but a motion."""
    error = ApiError("motion_refused", param=answer.verdict.limiting_rule)
    body = error_body(error, request_id=answer.trace.public_id, errors_url=errors_url)
    if answer.verdict.fallback is not None:
        body["fallback"] = fallback_json(answer.verdict.fallback)
    return Written(body=msgspec.json.encode(body), status=error.kind.status)


class _Caller:
    """Watches, from the end of the body on, whether there is still somebody to answer."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._work = asyncio.current_task()
        self._watch: asyncio.Future[Message] | None = None
        self._is_gone = False

    def watch(self) -> None:
        """Cancels the current task when the caller hangs up."""
        self._watch = asyncio.ensure_future(self._receive())
        self._watch.add_done_callback(self._hung_up)

    def _hung_up(self, watch: "asyncio.Future[Message]") -> None:
        if not watch.cancelled() and watch.exception() is None and self._work is not None:
            self._is_gone = True
            self._work.cancel()

    def forget(self) -> None:
        """Stops watching."""
        if self._watch is not None:
            self._watch.remove_done_callback(self._hung_up)
            self._watch.cancel()

    def explain_cancellation(self) -> None:
        """Raises ClientGone if the hang-up, and not the server's own stopping, was the cause."""
        if self._is_gone and self._work is not None and self._work.uncancel() == 0:
            raise ClientGone from None
