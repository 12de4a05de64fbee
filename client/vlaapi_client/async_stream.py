"""The stream for asyncio programs: one WebSocket instead of a request each, with the answers, errors and back-off of Stream.

Needs `pip install vlaapi-client[stream]`. Several frames may be on their way; in a session the newest wins, and the one it takes
the place of is Superseded. Cancelling a call stops the wait; its frame stays on its way. For one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from vlaapi_client import stream_wire as wire
from vlaapi_client import transport
from vlaapi_client.calls import Defaults, Fields, Pictures, observation
from vlaapi_client.client import DEADLINE_MS
from vlaapi_client.errors import VlaError
from vlaapi_client.pictures import Encoding
from vlaapi_client.results import Answer

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_BROKEN = (OSError, WebSocketException)


@dataclass(eq=False)
class _Line:
    """One connection, who waits on it, and what listens."""

    socket: ClientConnection
    waiting: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    listener: asyncio.Task[None] | None = None
    why: str | None = None  # it was lost


class AsyncStream:
    """One service, one key, one socket. It is opened by `warm` or by the first call."""

    def __init__(
        self, url: str, key: str, *, deadline_ms: int = DEADLINE_MS, jpeg_quality: int | None = 90, ssl: Any = None
    ) -> None:
        self._url = wire.address(url)
        self._headers = dict(transport.headers_for(key))
        self._defaults, self._ssl = Defaults(deadline_ms=deadline_ms, encoding=Encoding(jpeg_quality)), ssl
        self._lock, self._ids = asyncio.Lock(), itertools.count()
        self._line: _Line | None = None
        self._back_off = wire.BackOff()
        self.metadata: Mapping[str, Any] = {}

    async def warm(self) -> Mapping[str, Any]:
        """Opens the socket and proves the key; gives what the service says of its default model."""
        await self._open(time.monotonic() + self._defaults.deadline_ms / 1e3)
        return self.metadata

    async def infer(
        self, pictures: Pictures, instruction: str, *, deadline_ms: int | None = None, **fields: Unpack[Fields]
    ) -> Answer:
        """The next motion, as Client.infer. Raises Superseded when a newer frame of the session took the place of this one."""
        request, parts = observation(pictures, instruction, fields, self._defaults, deadline_ms=deadline_ms)
        began_s = time.monotonic()
        ends_s = began_s + request["deadline_ms"] / 1e3
        line, number = await self._open(ends_s), next(self._ids)
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        line.waiting[number] = reply
        try:
            if line.why is not None:
                raise wire.lost(line.why)
            asked = _asked(line.socket, wire.question(number, request, parts), reply)
            told = await asyncio.wait_for(asked, max(0.001, ends_s - time.monotonic()))
        except asyncio.TimeoutError:
            raise wire.too_late(request["deadline_ms"]) from None
        except _BROKEN as error:
            raise wire.broken(error) from None
        finally:
            line.waiting.pop(number, None)
        return wire.answered(told, 1e3 * (time.monotonic() - began_s))

    async def aclose(self) -> None:
        """Closes the socket; who waits gets ConnectionLost."""
        async with self._lock:
            line, self._line = self._line, None
        if line is not None:
            await line.socket.close()
            if line.listener is not None:
                await line.listener

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _open(self, ends_s: float) -> _Line:
        async with self._lock:
            if self._line is not None and self._line.why is None:
                return self._line
            self._back_off.check()
            try:
                line = await self._connected(max(0.05, ends_s - time.monotonic()))
            except VlaError:
                self._back_off.failed()
                raise
            self._line = line
            self._back_off.succeeded()
            line.listener = asyncio.create_task(_listen(line))
            return line

    async def _connected(self, timeout_s: float) -> _Line:
        try:
            socket = await connect(self._url, **wire.options(self._headers, self._ssl, timeout_s))
        except InvalidStatus as refused:
            raise wire.turned_away(refused) from None
        except (*_BROKEN, asyncio.TimeoutError, InvalidHandshake) as error:
            raise wire.unreached(error) from None
        async with AsyncExitStack() as opened:
            opened.push_async_callback(socket.close)
            try:
                self.metadata = wire.told_by(await asyncio.wait_for(socket.recv(), timeout_s)).get("metadata", {})
            except (*_BROKEN, asyncio.TimeoutError) as error:
                raise wire.unreached(error) from None
            opened.pop_all()
        return _Line(socket)


async def _asked(socket: ClientConnection, question: bytes, reply: asyncio.Future[Any]) -> Any:
    """Sends, which a full line holds up, and waits."""
    await socket.send(question)
    return await reply


async def _listen(line: _Line) -> None:
    """Until the socket ends: hands each reply to who waits for it."""
    why = "the socket was closed"
    try:
        async for message in line.socket:
            told = wire.told_by(message)
            waiting = line.waiting.get(wire.number_of(told))
            if waiting is not None and not waiting.done():
                waiting.set_result(told)
    except (*_BROKEN, VlaError) as error:
        why = wire.how_broken(error)
    line.why = why
    for waiting in list(line.waiting.values()):
        if not waiting.done():
            waiting.set_result(wire.lost(why))
    await line.socket.close()
