"""One WebSocket instead of a request each: `Stream` asks as Client does, with the same answers and errors, for less per frame.

Needs `pip install vlaapi-client[stream]`. Several frames may be on their way; in a session the newest wins, and the one it takes
the place of is Superseded. Nothing is repeated here: a lost frame is older than the next one. After a loss the next call connects
again, as often as the back-off allows. Safe to share by threads.
"""

from __future__ import annotations

import itertools
import json
import queue
import random
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgpack
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from vlaapi_client import transport
from vlaapi_client.calls import Defaults, Fields, Pictures, observation
from vlaapi_client.client import DEADLINE_MS
from vlaapi_client.errors import ConnectionLost, DeadlineExceeded, Refused, ServiceFault, VlaError, error_from, error_of
from vlaapi_client.pictures import Encoding
from vlaapi_client.results import Answer, answer_of

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

PATH = "/v1/stream"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


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
        self._url = transport.base_url(url).replace("http", "ws", 1) + PATH
        self._headers = dict(transport.headers_for(key))
        self._defaults, self._ssl = Defaults(deadline_ms=deadline_ms, encoding=Encoding(jpeg_quality)), ssl
        self._lock, self._ids = threading.Lock(), itertools.count()
        self._line: _Line | None = None
        self._failures, self._not_before_s = 0, float("-inf")
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
                raise _lost("the socket broke")
            self._send(line, {"id": number, "request": {**request, **_pictures(parts)}})
            told = reply.get(timeout=max(0.001, ends_s - time.monotonic()))
        except queue.Empty:
            message = f"no answer within {request['deadline_ms']} ms; gave up waiting here"
            raise DeadlineExceeded("deadline_exceeded", message, param="deadline_ms", is_retryable=True) from None
        finally:
            line.waiting.pop(number, None)
        return _read(told, 1e3 * (time.monotonic() - began_s))

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
            left_s = self._not_before_s - time.monotonic()
            if left_s > 0:
                raise _lost("the service was not reached a moment ago", retry_after_s=round(left_s, 3))
            try:
                line = self._connected(max(0.05, ends_s - time.monotonic()))
            except VlaError:
                self._back_off()
                raise
            self._line, self._failures = line, 0
            threading.Thread(target=self._listen, args=(line,), daemon=True, name="vlaapi stream").start()
            return line

    def _connected(self, timeout_s: float) -> _Line:
        headers = dict(self._headers)
        options: dict[str, Any] = {} if self._ssl is None else {"ssl": self._ssl}
        options |= {"user_agent_header": headers.pop("User-Agent"), "max_size": transport.ANSWER_BYTES_MAX}
        options |= {"open_timeout": timeout_s, "compression": None, "proxy": None}
        try:
            with ExitStack() as opened:
                socket = opened.enter_context(connect(self._url, additional_headers=headers, **options))
                self.metadata = _object(socket.recv(timeout=timeout_s)).get("metadata", {})
                return _Line(socket, opened.pop_all())
        except InvalidStatus as refused:
            response = refused.response
            told = {name.lower(): value for name, value in response.headers.raw_items()}
            raise error_from(response.status_code, bytes(response.body or b""), told) from None
        except (OSError, TimeoutError, WebSocketException, InvalidHandshake) as error:
            raise _lost(f"no answer of the service ({type(error).__name__}: {error})") from None

    def _back_off(self) -> None:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures) * (0.75 + random.random() / 2)  # noqa: S311 -- jitter
        self._failures, self._not_before_s = self._failures + 1, time.monotonic() + pause_s

    def _send(self, line: _Line, message: Mapping[str, Any]) -> None:
        try:
            line.socket.send(msgpack.packb(message))
        except (OSError, WebSocketException) as error:
            raise _lost(f"the socket broke ({type(error).__name__}: {error})") from None

    def _listen(self, line: _Line) -> None:
        """Until the socket ends: hands each reply to who waits for it. Runs in a thread, which also answers pings."""
        why = "the socket was closed"
        try:
            for message in line.socket:
                told = _object(message)
                waiting = line.waiting.get(told.get("id", -1))
                if waiting is not None:
                    waiting.put(told)
        except (OSError, WebSocketException, VlaError) as error:
            why = f"the socket broke ({type(error).__name__}: {error})"
        line.is_lost = True
        for waiting in list(line.waiting.values()):
            waiting.put(_lost(why))
        line.open.close()


def _pictures(parts: Mapping[str, bytes]) -> dict[str, Any]:
    named = {name[len("images.") :]: data for name, data in parts.items() if name.startswith("images.")}
    first = {"image": parts["image"]} if "image" in parts else {}
    return {**first, **({"images": named} if named else {})}


def _read(told: Any, round_trip_ms: float) -> Answer:
    if isinstance(told, VlaError):
        raise told
    if isinstance(told.get("error"), dict):
        error = error_of(told["error"], 0, {})
        if isinstance(error, Refused):
            error.fallback = told.get("fallback")
        raise error
    return answer_of(told.get("answer") or {}, {}, round_trip_ms)


def _object(message: bytes | str) -> dict[str, Any]:
    try:
        told = msgpack.unpackb(message) if isinstance(message, bytes) else json.loads(message)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise ServiceFault("unreadable_answer", "a message of the service cannot be read") from None
    if not isinstance(told, dict):
        raise ServiceFault("unreadable_answer", "a message of the service is no object")
    return told


def _lost(why: str, retry_after_s: float | None = None) -> ConnectionLost:
    return ConnectionLost("connection_lost", why, is_retryable=True, retry_after_s=retry_after_s)
