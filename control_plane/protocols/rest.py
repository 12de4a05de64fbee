"""`POST /v1/inference`: the REST door onto the pipeline. A raw ASGI endpoint: no framework code runs between body and pipeline.

Reads the body within its bounds, hands the request on, writes the answer. When the caller hangs up, the work for it is cancelled.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope, Send

from control_plane.errors import ApiError, error_body
from control_plane.inference.answer import Answer, body_of
from control_plane.inference.body import BodyLimits, ClientGone, read_body
from control_plane.inference.observation import Inquiry
from control_plane.inference.parse import parse
from control_plane.inference.pipeline import Call, Pipeline
from control_plane.protocols.doorway import json_headers, trace_of

PATH = "/v1/inference"
REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceDoor:
    """The endpoint, an ASGI application of its own."""

    pipeline: Pipeline
    limits: BodyLimits
    errors_url: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace = trace_of(scope)
        trace.route = PATH
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        caller = _Caller(receive)

        async def understand() -> Inquiry:
            body = await read_body(receive, headers, self.limits)
            caller.watch()
            return parse(body, headers.get(b"content-type", b"").decode("latin-1"))

        key = headers.get(b"authorization")
        call = Call(trace=trace, authorization=None if key is None else key.decode("latin-1"), parse=understand)
        try:
            answer = await self.pipeline.answer(call)
        except asyncio.CancelledError:
            caller.explain_cancellation()
            raise
        finally:
            caller.forget()
        await _send(answer, send, errors_url=self.errors_url)
        trace.outcome = REFUSED if answer.is_refused else "success"


async def _send(answer: Answer, send: Send, *, errors_url: str) -> None:
    status, error = 200, None
    if answer.is_refused and answer.is_rejection_an_error:
        refused = ApiError("motion_refused", param=answer.verdict.limiting_rule)
        error = error_body(refused, request_id=answer.trace.public_id, errors_url=errors_url)["error"]
        status = refused.kind.status
    body = body_of(answer, error=error)
    headers = {"Server-Timing": answer.trace.server_timing(), **answer.admission.headers()}
    await send({"type": "http.response.start", "status": status, "headers": json_headers(body, headers)})
    await send({"type": "http.response.body", "body": body})


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
