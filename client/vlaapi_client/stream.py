"""One WebSocket instead of a request each: `Stream` asks as Client does, with the same answers and errors, for less per frame.

Needs `pip install vlaapi-client[stream]`. Several frames may be on their way; in a session the newest wins, and the one it takes
the place of is Superseded. Nothing is repeated here: a lost frame is older than the next one. After a loss the next call connects
again, as often as the back-off allows. Safe to share by threads.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from vlaapi_client import stream_wire as wire
from vlaapi_client import transport
from vlaapi_client.calls import Defaults, Fields, Pictures, observation
from vlaapi_client.client import DEADLINE_MS
from vlaapi_client.errors import VlaError
from vlaapi_client.pictures import Encoding
from vlaapi_client.results import Answer

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


@dataclass(eq=False)
class _Line:
    """One connection and who waits on it. An exception in a queue ends that wait."""

    socket: ClientConnection
    open: ExitStack  # closing it closes the socket
    waiting: dict[int, queue.SimpleQueue[Any]] = field(default_factory=dict)
    is_lost: bool = False


class Stream:
    """One service, one key, one socket. It is opened by `warm` or by the first call."""

    def __init__(
        self, url: str, key: str, *, deadline_ms: int = DEADLINE_MS, jpeg_quality: int | None = 90, ssl: Any = None
    ) -> None:
        self._url = wire.address(url)
        self._headers = dict(transport.headers_for(key))
        self._defaults, self._ssl = Defaults(deadline_ms=deadline_ms, encoding=Encoding(jpeg_quality)), ssl
        self._lock, self._ids = threading.Lock(), itertools.count()
        self._line: _Line | None = None
        self._back_off = wire.BackOff()
        self.metadata: Mapping[str, Any] = {}

    def warm(self) -> Mapping[str, Any]:
        """Opens the socket and proves the key; gives what the service says of its default model."""
        self._open(time.monotonic() + self._defaults.deadline_ms / 1e3)
        return self.metadata

    def infer(self, pictures: Pictures, instruction: str, *, deadline_ms: int | None = None, **fields: Unpack[Fields]) -> Answer:
        """The next motion, as Client.infer. Raises Superseded when a newer frame of the session took the place of this one."""
        request, parts = observation(pictures, instruction, fields, self._defaults, deadline_ms=deadline_ms)
        began_s = time.monotonic()
        ends_s = began_s + request["deadline_ms"] / 1e3
        line, number, reply = self._open(ends_s), next(self._ids), queue.SimpleQueue[Any]()
        line.waiting[number] = reply
        try:
            if line.is_lost:
                raise wire.lost("the socket broke")
            self._send(line, wire.question(number, request, parts))
            told = reply.get(timeout=max(0.001, ends_s - time.monotonic()))
        except queue.Empty:
            raise wire.too_late(request["deadline_ms"]) from None
        finally:
            line.waiting.pop(number, None)
        return wire.answered(told, 1e3 * (time.monotonic() - began_s))

    def close(self) -> None:
        """Closes the socket; who waits gets ConnectionLost."""
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def _open(self, ends_s: float) -> _Line:
        with self._lock:
            if self._line is not None and not self._line.is_lost:
                return self._line
            self._back_off.check()
            try:
                line = self._connected(max(0.05, ends_s - time.monotonic()))
            except VlaError:
                self._back_off.failed()
                raise
            self._line = line
            self._back_off.succeeded()
            threading.Thread(target=self._listen, args=(line,), daemon=True, name="vlaapi stream").start()
            return line

    def _connected(self, timeout_s: float) -> _Line:
        try:
            with ExitStack() as opened:
                socket = opened.enter_context(connect(self._url, **wire.options(self._headers, self._ssl, timeout_s)))
                self.metadata = wire.told_by(socket.recv(timeout=timeout_s)).get("metadata", {})
                return _Line(socket, opened.pop_all())
        except InvalidStatus as refused:
            raise wire.turned_away(refused) from None
        except (OSError, TimeoutError, WebSocketException, InvalidHandshake) as error:
            raise wire.unreached(error) from None

    def _send(self, line: _Line, message: bytes) -> None:
        try:
            line.socket.send(message)
        except (OSError, WebSocketException) as error:
            raise wire.broken(error) from None

    def _listen(self, line: _Line) -> None:
        """Until the socket ends: hands each reply to who waits for it. Runs in a thread, which also answers pings."""
        why = "the socket was closed"
        try:
            for message in line.socket:
                told = wire.told_by(message)
                waiting = line.waiting.get(wire.number_of(told))
                if waiting is not None:
                    waiting.put(told)
        except (OSError, WebSocketException, VlaError) as error:
            why = wire.how_broken(error)
        line.is_lost = True
        for waiting in list(line.waiting.values()):
            waiting.put(wire.lost(why))
        line.open.close()
