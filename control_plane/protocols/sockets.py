"""Requests that come as messages of a WebSocket: each is a request of its own (admitted, guarded, journalled, with its own id).

The newest frame of a lane wins: while one is worked on, only the newest waiting one is kept, and the one it takes the place of
is refused with `superseded`, neither counted nor billed. Where a wire has nothing to tell replies apart, an overtaken frame
gets no reply at all and the work for it is cancelled, so that the next message is never about an older frame than the last one
sent. The key is looked at for every message, so a revoked one ends the socket. Receiving never waits for an inference: pings
are answered.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, Self
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from starlette.types import Message, Receive, Scope, Send

from control_plane.errors import ApiError, error_headers
from control_plane.identity.principal import Principal
from control_plane.inference.account import CANCELLED
from control_plane.inference.answer import Answer
from control_plane.inference.observation import Inquiry
from control_plane.inference.pipeline import Call, Pipeline
from control_plane.inference.trace import Trace
from control_plane.protocols.doorway import CLIENT_GONE, Register, json_headers
from control_plane.protocols.http_wire import data_policy_of
from safety.wire import fallback_json

METHOD = "WEBSOCKET"
REFUSED = "refused"
IDLE, POLICY_VIOLATION = 1001, 1008  # RFC 6455 §7.4.1
_REPLACED = "this process is being replaced: connect again"
RESTARTING = 1012  # of the same registry: come again, another process answers
_SOCKETS_PER_PLACE = 4  # a customer may keep this many sockets open per process for each request they may have in flight


@dataclass(slots=True, kw_only=True)
class Frame:
    """One message. `inquiry` is what it asks, or what is wrong with it; `overtook` names the frames that it took the place of."""

    trace: Trace
    lane: str
    inquiry: Inquiry | ApiError
    correlates: bool
    seq: int | None = None
    reply_to: Any = None
    overtook: list[str] = field(default_factory=list)

    async def understand(self) -> Inquiry:
        """The pipeline's second step."""
        if isinstance(self.inquiry, ApiError):
            raise self.inquiry
        return self.inquiry


class Wire(Protocol):
    """What one connection's door knows: how messages are written, and nothing of what happens to them."""

    def hello(self, principal: Principal) -> bytes | str:
        """The first message. Raises ApiError for what the address asks for."""

    def read(self, data: bytes | str, trace: Trace) -> Frame:
        """What a message asks; never raises."""

    def answer(self, frame: Frame, answer: Answer) -> bytes | str:
        """A motion."""

    def error(self, frame: Frame, body: dict[str, Any]) -> bytes | str:
        """No motion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketLimits:
    """How big a message may be and how long a socket may be silent."""

    max_bytes: int
    idle_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketDoor:
    """The endpoint, an ASGI application of its own. `wire` makes one for each connection from the address's query."""

    path: str
    wire: Callable[[Mapping[str, str]], Wire]
    pipeline: Pipeline
    register: Register
    limits: SocketLimits
    open_sockets: Counter[UUID] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        trace = Trace(route=self.path, outcome=CANCELLED)
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization")
        key = None if authorization is None else authorization.decode("latin-1")
        wire = self.wire(dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))))
        opened = await self.register.outcome(trace, self._open(key, wire))
        if isinstance(opened, ApiError):
            await self._turn_away(trace, opened, send)
            return
        principal, hello = opened
        self.open_sockets[principal.customer_id] += 1
        try:
            await send({"type": "websocket.accept", "headers": [(b"x-request-id", trace.public_id.encode())]})
            await send(_message(hello))
            policy = data_policy_of(headers)
            talk = _Conversation(door=self, wire=wire, authorization=key, data_policy=policy, principal=principal, send=send)
            await talk.run(receive)
        finally:
            self.open_sockets[principal.customer_id] -= 1
            if not self.open_sockets[principal.customer_id]:
                del self.open_sockets[principal.customer_id]

    async def _open(self, key: str | None, wire: Wire) -> tuple[Principal, bytes | str]:
        principal = await self.pipeline.authenticator.authenticate(key)
        if self.open_sockets[principal.customer_id] >= _SOCKETS_PER_PLACE * principal.limits.concurrency:
            raise ApiError("concurrency_limit", "Too many of your sockets are open.", retry_after_ms=1000)
        return principal, wire.hello(principal)

    async def _turn_away(self, trace: Trace, error: ApiError, send: Send) -> None:
        """An HTTP answer in place of the socket; nothing was received."""
        body = msgspec.json.encode(self.register.body(trace, error))
        headers = json_headers(body, {"X-Request-Id": trace.public_id, **error_headers(error)})
        await send({"type": "websocket.http.response.start", "status": error.kind.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
        self.register.report(trace, route=self.path, method=METHOD, status=error.kind.status)


def bounded(data: bytes | str, max_bytes: int) -> None:
    """For a server that was started without the bound. Raises body_too_large."""
    if len(data) > max_bytes:
        raise ApiError("body_too_large", f"The message is larger than {max_bytes} bytes.")


def _message(data: bytes | str) -> Message:
    return {"type": "websocket.send", "bytes" if isinstance(data, bytes) else "text": data}


@dataclass(slots=True)
class _Lane:
    """What is being worked on, and what waits. `is_overtaken`: the work is being cancelled for a newer frame."""

    frame: Frame
    work: "asyncio.Task[None]"
    waiting: Frame | None = None
    is_overtaken: bool = False


class _Silence:
    """Tells when nothing was heard for `idle_s`, while it is open. One timer, not one a message."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle_s: float, *, ended: Callable[[], None]) -> None:
        self.heard_s = loop.time()
        self._loop, self._idle_s, self._ended = loop, idle_s, ended
        self._timer = loop.call_later(idle_s, self._look)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        until_s = self.heard_s + self._idle_s
        if self._loop.time() < until_s:
            self._timer = self._loop.call_at(until_s, self._look)
        else:
            self._ended()


@dataclass(slots=True, kw_only=True)
class _Conversation:
    """One open socket."""

    door: SocketDoor
    wire: Wire
    authorization: str | None
    data_policy: str | None
    principal: Principal
    send: Send
    lanes: dict[str, _Lane] = field(default_factory=dict)
    is_closed: bool = False
    farewell: "list[asyncio.Task[None]]" = field(default_factory=list)  # kept, or it would be collected before it is said

    async def run(self, receive: Receive) -> None:
        """Until the caller goes, is silent too long, or may not speak any more."""
        loop, idle_s = asyncio.get_running_loop(), self.door.limits.idle_s
        leaving = self.door.register.drain.leave
        leaving.add(self._leave)
        try:
            async with asyncio.timeout(None) as silence:
                with _Silence(loop, idle_s, ended=lambda: silence.reschedule(loop.time())) as watch:
                    while (message := await receive())["type"] != "websocket.disconnect":
                        watch.heard_s = loop.time()
                        if not self.is_closed:
                            await self._take(message)
        except TimeoutError:
            await self._close(IDLE, "idle")
        finally:
            leaving.discard(self._leave)
            self.is_closed = True
            works = [lane.work for lane in self.lanes.values()]
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def _take(self, message: Message) -> None:
        data = message.get("bytes")
        trace = Trace(route=self.door.path, outcome=CANCELLED)
        frame = self.wire.read(message["text"] if data is None else data, trace)
        lane = self.lanes.get(frame.lane)
        if lane is None and len(self.lanes) >= self.principal.limits.concurrency:
            await self._refuse(frame, ApiError("concurrency_limit", retry_after_ms=100))
        elif (
            lane is None and self.lanes and self.door.register.drain.has_begun
        ):  # sessions in turn would keep this process as well
            await self._refuse(frame, ApiError("overloaded", f"{_REPLACED}.", retry_after_ms=100))
        elif lane is None:
            self._start(frame)
        else:
            await self._wait(lane, frame)

    async def _wait(self, lane: _Lane, frame: Frame) -> None:
        """In the place of what waits, which is told; or, where replies cannot be told apart, of everything before it."""
        older, lane.waiting = lane.waiting, frame
        if frame.correlates and lane.frame.correlates and (older is None or older.correlates):
            if older is not None:
                await self._refuse(older, ApiError("superseded", param=None if older.seq is None else "seq"))
            return
        if not (lane.is_overtaken or lane.work.done()):  # done: answered, and what waits is begun in a moment
            lane.is_overtaken = True
            lane.work.cancel()
            frame.overtook += [*lane.frame.overtook, lane.frame.trace.public_id]
        if older is not None:
            frame.overtook += [*older.overtook, older.trace.public_id]
            self._report(older, ApiError("superseded"), outcome="superseded")

    def _start(self, frame: Frame) -> None:
        work = asyncio.create_task(self._answer(frame))
        self.lanes[frame.lane] = _Lane(frame, work)
        work.add_done_callback(lambda _: self._next(frame.lane))

    def _next(self, name: str) -> None:
        waiting = self.lanes.pop(name).waiting
        is_leaving = self.door.register.drain.has_begun
        if waiting is not None and self.is_closed:
            self._report(waiting, None, outcome=CLIENT_GONE)
        elif waiting is not None and is_leaving:  # who sends faster than we answer would keep this process for ever
            refusal = ApiError("overloaded", f"{_REPLACED}.", retry_after_ms=100)
            self.farewell.append(asyncio.create_task(self._refuse(waiting, refusal)))
        elif waiting is not None:
            self._start(waiting)
        if is_leaving:
            self._leave()

    async def _answer(self, frame: Frame) -> None:
        """One request from its admission to its reply; reported also when it is cancelled."""
        frame.trace.mark("waiting")
        call = Call(trace=frame.trace, authorization=self.authorization, parse=frame.understand, data_policy=self.data_policy)
        try:
            answer = await self.door.register.outcome(frame.trace, self.door.pipeline.answer(call))
            if isinstance(answer, ApiError):
                await self._refuse(frame, answer)
            elif answer.is_refused:
                await self._refuse(frame, ApiError("motion_refused", param=answer.verdict.limiting_rule), answer=answer)
            else:
                await self._say(self.wire.answer(frame, answer))
                self._report(frame, None, outcome="success")
        except asyncio.CancelledError:
            lane = self.lanes.get(frame.lane)
            is_overtaken = lane is not None and lane.is_overtaken
            self._report(frame, None, outcome="superseded" if is_overtaken else CLIENT_GONE)
            raise

    async def _refuse(self, frame: Frame, error: ApiError, *, answer: Answer | None = None) -> None:
        body = self.door.register.body(frame.trace, error)
        if answer is not None and answer.verdict.fallback is not None:
            body["fallback"] = fallback_json(answer.verdict.fallback)
        await self._say(self.wire.error(frame, body))
        if error.kind.type == "authentication":
            await self._close(POLICY_VIOLATION, error.kind.code)
        self._report(frame, error, outcome=error.kind.code if answer is None else REFUSED)

    def _report(self, frame: Frame, error: ApiError | None, *, outcome: str) -> None:
        frame.trace.outcome = outcome
        status = error.kind.status if error is not None else 200 if outcome == "success" else 0
        self.door.register.report(frame.trace, route=self.door.path, method=METHOD, status=status)

    async def _say(self, data: bytes | str) -> None:
        with suppress(OSError):  # the caller is gone; `run` is told so in its turn
            await self.send(_message(data))

    def _leave(self) -> None:
        """This process is being replaced: once what is worked on is answered, the caller is sent to another one."""
        if not self.lanes and not self.is_closed:
            self.is_closed = True
            self.farewell.append(asyncio.create_task(self._part(tuple(self.farewell))))

    async def _part(self, refusals: "tuple[asyncio.Task[None], ...]") -> None:
        await asyncio.gather(*refusals, return_exceptions=True)
        await self._say_close(RESTARTING, _REPLACED)

    async def _say_close(self, code: int, reason: str) -> None:
        with suppress(OSError):
            await self.send({"type": "websocket.close", "code": code, "reason": reason})

    async def _close(self, code: int, reason: str) -> None:
        if not self.is_closed:
            self.is_closed = True
            await self._say_close(code, reason)
