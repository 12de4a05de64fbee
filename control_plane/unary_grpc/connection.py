"""One HTTP/2 connection on which many gRPC calls are in flight at once (RFC 9113 §5, gRPC's PROTOCOL-HTTP2).

A call is one message there and one back. A call that fails says whether the server can have seen it: it has certainly not if it
said so itself (REFUSED_STREAM, or a stream above a GOAWAY's last), or if the connection ended before all of the message had left.
Knows no addresses and no protobuf; `channel.py` opens it.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import cast

from control_plane.unary_grpc.frames import (
    CONNECTION,
    FIRST_WINDOW,
    FRAME_BYTES,
    LARGEST_WINDOW,
    PREFACE,
    Cutter,
    Flag,
    Frame,
    Kind,
    ProtocolError,
    Reset,
    Setting,
    frame,
    frame_head,
    read_number,
    read_settings,
    reset,
    settings,
    unpadded,
    window_update,
)
from control_plane.unary_grpc.heads import NO_TABLE, Head, Heads, message_of, timeout_head

_LARGEST_ANSWER_BYTES = 256 * 2**20
_REPLENISH_BYTES = 2**30
_LAST_STREAM = 2**31 - 1_000  # ids cannot be used twice; a new connection begins with 1
_NO_LIMIT = 2**31
_LONGEST_BLOCK_BYTES = 65_536
_PREFIX_BYTES = 5  # before each message: whether it is compressed, and its length


class Status(IntEnum):
    """gRPC's codes that are told apart here or by callers; any other is `UNKNOWN`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    INTERNAL = 13
    UNAVAILABLE = 14


_BY_CODE = {str(status.value): status for status in Status}
_AWAY_HTTP = frozenset({"429", "502", "503", "504"})  # a proxy between us and the server speaks
_RESETS: Mapping[int, Status] = {Reset.REFUSED_STREAM: Status.UNAVAILABLE, Reset.CANCEL: Status.CANCELLED}


class CallFailedError(Exception):
    """No message came back. `details` is the server's own text. `was_sent` is False only if the call was certainly not seen."""

    def __init__(self, status: Status, details: str, *, was_sent: bool = True) -> None:
        self.status = status
        self.details = details
        self.was_sent = was_sent
        super().__init__(f"{status.name}: {details}")


class _Call:
    __slots__ = ("answer", "at", "body", "body_bytes", "head", "message", "timer", "window")

    def __init__(self, answer: "asyncio.Future[bytes]", message: bytes, window: int) -> None:
        self.answer = answer
        self.message = memoryview(message)  # what was not sent with its head
        self.at = 0  # how much of it is sent
        self.window = window
        self.head: dict[str, str] = {}  # the first and the last together: no name is in both
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.timer: asyncio.TimerHandle | None = None


class Connection(asyncio.Protocol):
    """Use `ask` once `ready` is done. `head` is `request_head(…)`."""

    def __init__(self, head: bytes) -> None:
        self._head, self._before_it = head, NO_TABLE
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()  # done once the peer has said its settings
        self.is_open = True  # False: no further call may begin on it
        self._closed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._cutter, self._heads = Cutter(), Heads()
        self._calls: dict[int, _Call] = {}
        self._blocked: dict[int, _Call] = {}  # in the order they began; those that wait for a window
        self._waiting: deque[asyncio.Future[None]] = deque()  # for another call to end, where the peer allows only so many
        self._next_stream = 1
        self._window = FIRST_WINDOW
        self._stream_window = FIRST_WINDOW
        self._frame_bytes = FRAME_BYTES.start
        self._most_calls = _NO_LIMIT
        self._received_bytes = 0
        self._block: Frame | None = None  # what has come of a header block of which more is to come

    async def ask(self, message: Sequence[bytes | memoryview], timeout_s: float) -> bytes:
        """The answer to `message` (given in parts). Raises CallFailedError; a cancellation is told to the server."""
        ends_s = self._loop.time() + timeout_s
        if len(self._calls) >= self._most_calls:
            await self._wait(ends_s)
        stream, call = self._begin(message, max(0.0, ends_s - self._loop.time()))
        try:
            return await call.answer
        except asyncio.CancelledError:
            self._abandon(stream)
            raise

    async def close(self) -> None:
        """Ends it; calls in flight fail. On return it is closed."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()
            await self._closed.wait()

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says hello."""
        self._transport = both_ways = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        ours = {Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: LARGEST_WINDOW}
        both_ways.write(PREFACE + settings(ours) + window_update(CONNECTION, LARGEST_WINDOW - FIRST_WINDOW))

    def data_received(self, data: bytes) -> None:
        """Takes what is whole; ends the connection where the peer breaks the protocol."""
        try:
            for one in self._cutter.cut(data):
                self._take(one)
        except ProtocolError as error:
            self._write(frame(Kind.GOAWAY, 0, CONNECTION, bytes(4) + Reset.PROTOCOL_ERROR.to_bytes(4, "big")))
            self._fail_all(f"the server broke HTTP/2: {error}")
            if self._transport is not None:
                self._transport.close()

    def eof_received(self) -> None:
        """No answer can come any more, whatever is still to be sent."""
        self._fail_all("the server closed the connection")
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails what was in flight."""
        self._fail_all(f"connection lost: {exc}" if exc else "connection closed")
        self._closed.set()

    # Beginning, sending and ending a call.

    def _begin(self, message: Sequence[bytes | memoryview], timeout_s: float) -> tuple[int, _Call]:
        if not self.is_open:
            raise CallFailedError(Status.UNAVAILABLE, "the connection has ended", was_sent=False)
        length = sum(map(len, message))
        parts: list[bytes | memoryview] = [b"\0" + length.to_bytes(4, "big"), *message]
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        if self._next_stream > _LAST_STREAM:
            self.is_open = False
        head, self._before_it = self._before_it + self._head + timeout_head(timeout_s), b""
        begin = frame(Kind.HEADERS, Flag.END_HEADERS, stream, head)
        size = length + _PREFIX_BYTES
        if size <= min(self._frame_bytes, self._stream_window, self._window):
            call = self._calls[stream] = _Call(self._loop.create_future(), b"", self._stream_window - size)
            self._window -= size
            self._put([begin, frame_head(Kind.DATA, Flag.END_STREAM, stream, size), *parts])  # as they are: no copy of a picture
        else:
            call = self._calls[stream] = _Call(self._loop.create_future(), b"".join(parts), self._stream_window)
            self._send(stream, call, [begin])
        call.timer = self._loop.call_later(timeout_s, self._expire, stream)
        return stream, call

    def _send(self, stream: int, call: _Call, before: Sequence[bytes] = ()) -> None:
        """As much of the message as both windows allow; the rest when they grow."""
        out: list[bytes | memoryview] = [*before]
        end = len(call.message)
        while call.at < end:
            size = min(end - call.at, self._frame_bytes, call.window, self._window)
            if size <= 0:
                self._blocked[stream] = call
                break
            begins, call.at = call.at, call.at + size
            call.window -= size
            self._window -= size
            flags = Flag.END_STREAM if call.at == end else 0
            out += (frame_head(Kind.DATA, flags, stream, size), call.message[begins : call.at])
        else:
            self._blocked.pop(stream, None)
        self._put(out)

    def _put(self, out: Sequence[bytes | memoryview]) -> None:
        if out and self._transport is not None:
            self._transport.writelines(out)

    def _unblock(self) -> None:
        for stream, call in list(self._blocked.items()):
            if self._window <= 0:
                return
            self._send(stream, call)

    async def _wait(self, ends_s: float) -> None:
        """Until the peer allows one more. All are woken and look again: nobody's leaving may cost another's turn."""
        while self.is_open and len(self._calls) >= self._most_calls:
            place: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(place)
            try:
                async with asyncio.timeout_at(ends_s):
                    await place
            except TimeoutError:
                raise CallFailedError(Status.DEADLINE_EXCEEDED, "no call ended in time", was_sent=False) from None
            finally:
                if place in self._waiting:
                    self._waiting.remove(place)

    def _expire(self, stream: int) -> None:
        self._fail(stream, CallFailedError(Status.DEADLINE_EXCEEDED, "no answer in time"))
        self._write(reset(stream, Reset.CANCEL))

    def _abandon(self, stream: int) -> None:
        if self._end(stream) is not None:
            self._write(reset(stream, Reset.CANCEL))

    def _end(self, stream: int) -> _Call | None:
        call = self._calls.pop(stream, None)
        if call is None:
            return None
        self._blocked.pop(stream, None)
        if call.timer is not None:
            call.timer.cancel()
        self._wake()
        if not self.is_open and not self._calls and self._transport is not None:
            self._transport.close()
        return call

    def _fail(self, stream: int, error: CallFailedError) -> None:
        call = self._end(stream)
        if call is not None and not call.answer.done():
            call.answer.set_exception(error)

    def _fail_all(self, details: str) -> None:
        self.is_open = False
        if not self.ready.done():
            self.ready.set_exception(CallFailedError(Status.UNAVAILABLE, details, was_sent=False))
            self.ready.exception()  # whoever opened it may have given up already
        for stream, call in list(self._calls.items()):  # no server begins with half a message
            self._fail(stream, CallFailedError(Status.UNAVAILABLE, details, was_sent=call.at == len(call.message)))
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # What the peer says.

    def _take(self, one: Frame) -> None:
        if self._block is not None and one.kind != Kind.CONTINUATION:
            raise ProtocolError("a header block was interrupted")
        match one.kind:
            case Kind.DATA:
                self._take_data(one)
            case Kind.HEADERS:
                self._take_headers(one, unpadded(one))
            case Kind.CONTINUATION:
                self._take_continuation(one)
            case Kind.WINDOW_UPDATE:
                self._take_window(one.stream, read_number(one.payload))
            case Kind.PING if not one.flags & Flag.ACK:
                self._write(frame(Kind.PING, Flag.ACK, CONNECTION, one.payload))
            case Kind.SETTINGS if not one.flags & Flag.ACK:
                self._take_settings(one.payload)
            case Kind.RST_STREAM:
                self._take_reset(one)
            case Kind.GOAWAY:
                self._take_goaway(one.payload)
            case Kind.PUSH_PROMISE:
                raise ProtocolError("a push that we forbade")

    def _take_data(self, one: Frame) -> None:
        self._received_bytes += len(one.payload)
        if self._received_bytes >= _REPLENISH_BYTES:
            self._write(window_update(CONNECTION, self._received_bytes))
            self._received_bytes = 0
        call = self._calls.get(one.stream)
        if call is None:  # one that we gave up
            return
        content = unpadded(one) if one.flags & Flag.PADDED else one.payload
        call.body.append(content)
        call.body_bytes += len(content)
        if call.body_bytes > _LARGEST_ANSWER_BYTES:
            self._fail(one.stream, CallFailedError(Status.INTERNAL, f"an answer of over {_LARGEST_ANSWER_BYTES} bytes"))
            self._write(reset(one.stream, Reset.CANCEL))
        elif one.flags & Flag.END_STREAM:
            self._finish(one.stream)

    def _take_headers(self, one: Frame, block: bytes) -> None:
        if not one.flags & Flag.END_HEADERS:
            self._block = one._replace(payload=block)
            return
        head = self._heads.read(block)
        call = self._calls.get(one.stream)
        if call is not None:
            call.head.update(head)
            if one.flags & Flag.END_STREAM:
                self._finish(one.stream)

    def _take_continuation(self, one: Frame) -> None:
        if self._block is None or self._block.stream != one.stream:
            raise ProtocolError("the continuation of nothing")
        block, is_whole = self._block.payload + one.payload, one.flags & Flag.END_HEADERS
        if len(block) > _LONGEST_BLOCK_BYTES or not (one.payload or is_whole):
            raise ProtocolError("a header block without an end")
        whole = self._block._replace(payload=block, flags=self._block.flags | is_whole)
        self._block = None
        self._take_headers(whole, block)

    def _finish(self, stream: int) -> None:
        """The peer has said all it will; what of ours is still unsent it does not want."""
        call = self._calls[stream]
        if call.at < len(call.message):
            self._write(reset(stream, Reset.NO_ERROR))
        try:
            answer = _message(call.head, b"".join(call.body))
        except CallFailedError as error:
            self._fail(stream, error)
            return
        self._end(stream)
        if not call.answer.done():
            call.answer.set_result(answer)

    def _take_window(self, stream: int, more: int) -> None:
        if stream == CONNECTION:
            self._window += more
        elif stream in self._calls:
            self._calls[stream].window += more
        self._unblock()

    def _take_settings(self, payload: bytes) -> None:
        for name, value in read_settings(payload):
            if name == Setting.INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._stream_window
                self._stream_window = value
            elif name == Setting.MAX_FRAME_SIZE:
                self._frame_bytes = value
            elif name == Setting.MAX_CONCURRENT_STREAMS:
                self._most_calls = value
        self._write(frame(Kind.SETTINGS, Flag.ACK, CONNECTION, b""))
        if not self.ready.done():
            self.ready.set_result(None)
        self._unblock()
        self._wake()

    def _take_reset(self, one: Frame) -> None:
        code = read_number(one.payload)
        status = _RESETS.get(code, Status.INTERNAL)
        error = CallFailedError(status, f"the server reset the call ({code})", was_sent=code != Reset.REFUSED_STREAM)
        self._fail(one.stream, error)

    def _take_goaway(self, payload: bytes) -> None:
        """No further call here. Those above the last one that the server took were never seen."""
        last, self.is_open = read_number(payload), False
        for stream in [stream for stream in self._calls if stream > last]:
            self._fail(stream, CallFailedError(Status.UNAVAILABLE, "the server goes away", was_sent=False))
        self._wake()
        if not self._calls and self._transport is not None:
            self._transport.close()


def _message(head: Head, body: bytes) -> bytes:
    """The one message of an answer that ended well. Raises CallFailedError."""
    http, code = head.get(":status"), head.get("grpc-status")
    if code is None and http != "200":
        raise CallFailedError(Status.UNAVAILABLE if http in _AWAY_HTTP else Status.UNKNOWN, f"HTTP {http} instead of gRPC")
    if code is None:
        raise CallFailedError(Status.INTERNAL, "an answer without a status")
    if code != "0":
        raise CallFailedError(_BY_CODE.get(code, Status.UNKNOWN), message_of(head))
    if len(body) < 5 or body[0] or len(body) - 5 != int.from_bytes(body[1:5], "big"):
        raise CallFailedError(Status.INTERNAL, f"{len(body)} bytes that are not one plain message")
    return body[5:]
