"""Whatever comes, in whatever pieces: the application hears and the peer is told what uvicorn's own protocol would have said."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from control_plane.protocols.plain_frames import PlainFrames

LARGEST = 700
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass
class Wire:
    """A transport that keeps what is written to it."""

    written: bytearray = field(default_factory=bytearray)
    is_closed: bool = False
    is_reading: bool = True

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_extra_info(self, _name: str) -> None:
        return None


async def outcome(
    kind: type[WebSocketsSansIOProtocol], pieces: list[bytes], *, accepts_late: bool = False, largest: int = LARGEST
) -> tuple[Any, ...]:
    """What the application heard, what the peer was told, and how the connection stands."""
    heard: list[Any] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for _ in range(4 if accepts_late else 0):
            await asyncio.sleep(0)
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            heard.append({name: bytes(value) if isinstance(value, bytearray) else value for name, value in message.items()})
            if message.get("text") == "enough":
                await send({"type": "websocket.close", "code": 1001})
        heard.append(message)

    config = Config(app, ws_max_size=largest, ws_per_message_deflate=False, ws_ping_interval=None, log_config=None)
    config.load()
    wire, state = Wire(), ServerState()
    protocol = kind(config=config, server_state=state, app_state={})
    protocol.connection_made(wire)  # type: ignore[arg-type] # as much of a transport as is asked for
    protocol.data_received(REQUEST)
    for _ in range(0 if accepts_late else 6):
        await asyncio.sleep(0)
    fault = None
    for piece in pieces:
        try:
            protocol.data_received(piece)
        except AssertionError as error:  # uvicorn's own, at a mistake before the socket is accepted; it ends the connection
            fault = type(error)
            break
        for _ in range(6):
            await asyncio.sleep(0)
    stands = (bytes(wire.written), wire.is_closed, wire.is_reading, protocol.conn.state, fault)
    protocol.connection_lost(None)
    await asyncio.gather(*state.tasks)
    return heard, stands


def frame(opcode: Opcode, data: bytes, *, is_last: bool = True, **odd: bool) -> bytes:
    return Frame(opcode, data, is_last, **odd).serialize(mask=True)


_DATA = st.one_of(st.binary(max_size=20), st.integers(0, LARGEST).map(lambda size: (bytes(range(256)) * 3)[:size]))
_PLAIN = st.one_of(
    _DATA.map(lambda data: frame(Opcode.BINARY, data)),
    st.just(b"\x82\xff" + (3).to_bytes(8, "big") + bytes(7)),  # with a longer head than it needs
)
_OTHER = st.one_of(
    st.text(max_size=9).map(lambda text: frame(Opcode.TEXT, text.encode())),
    st.binary(max_size=125).map(lambda data: frame(Opcode.PING, data)),
    st.binary(max_size=125).map(lambda data: frame(Opcode.PONG, data)),
    st.tuples(st.binary(max_size=9), st.binary(max_size=9)).map(
        lambda two: frame(Opcode.BINARY, two[0], is_last=False) + frame(Opcode.PING, b"between") + frame(Opcode.CONT, two[1])
    ),
)
_GARBAGE = st.binary(min_size=1, max_size=30)
_WRONG = st.one_of(
    st.just(frame(Opcode.TEXT, b"enough")),  # the application then closes
    st.just(frame(Opcode.CLOSE, b"\x03\xe8")),
    st.just(frame(Opcode.CLOSE, b"x")),
    st.just(frame(Opcode.TEXT, b"\xff")),
    st.binary(max_size=9).map(lambda data: frame(Opcode.BINARY, data, is_last=False)),
    st.tuples(st.binary(max_size=9), st.booleans()).map(lambda two: frame(Opcode.CONT, two[0], is_last=two[1])),
    st.just(frame(Opcode.BINARY, bytes(LARGEST + 1))),
    st.just(Frame(Opcode.BINARY, b"unmasked").serialize(mask=False)),
    st.just(b"\xc2\x80\x00\x00\x00\x00"),  # a bit that only an extension may set
    st.just(b"\x83\x80\x00\x00\x00\x00"),  # an operation that does not exist
    st.sampled_from([b"\x82\xff" + size.to_bytes(8, "big") + bytes(9) for size in (LARGEST + 1, 2**63 - 1, 2**64 - 1)]),
)


def cut(stream: bytes, places: set[int]) -> list[bytes]:
    edges = sorted({0, *places, len(stream)})
    return [stream[begins:ends] for begins, ends in pairwise(edges)]


@st.composite
def well_formed(draw: st.DrawFn) -> list[bytes]:
    """Whole messages, cut anywhere."""
    stream = b"".join(draw(st.lists(st.one_of(_PLAIN, _PLAIN, _OTHER), min_size=1, max_size=6)))
    places = draw(st.sets(st.integers(0, len(stream)), max_size=8))
    return cut(stream, places | set(range(draw(st.sampled_from([0, 30])))) if len(stream) > 30 else places)


@st.composite
def with_mistakes(draw: st.DrawFn) -> list[bytes]:
    """Anything, cut anywhere and surely before each frame.

    What comes in one piece with a later mistake uvicorn throws away; with the short way the application still hears it.
    """
    frames = draw(st.lists(st.one_of(_PLAIN, _OTHER, _WRONG, _WRONG), max_size=6))
    pieces = [piece for one in frames for piece in cut(one, draw(st.sets(st.integers(0, len(one)), max_size=3)))]
    garbage = draw(st.one_of(st.just(b""), _GARBAGE))
    return [*pieces, *cut(garbage, set(range(len(garbage))))]


@given(st.one_of(well_formed(), with_mistakes()), st.booleans())
@settings(max_examples=500, deadline=None)
@example([frame(Opcode.BINARY, bytes(LARGEST)), frame(Opcode.BINARY, bytes(LARGEST + 1))], False)
@example([frame(Opcode.BINARY, b"begun", is_last=False), frame(Opcode.BINARY, b"not its end")], False)
@example([frame(Opcode.TEXT, b"enough") + frame(Opcode.BINARY, b"too late"), frame(Opcode.BINARY, b"and later")], False)
@example([frame(Opcode.CLOSE, b"\x03\xe8"), frame(Opcode.BINARY, b"and later")], False)
def test_it_says_what_the_library_would_have_said(pieces: list[bytes], accepts_late: bool) -> None:
    both = [asyncio.run(outcome(kind, pieces, accepts_late=accepts_late)) for kind in (WebSocketsSansIOProtocol, PlainFrames)]
    assert both[0] == both[1]


async def test_a_plain_frame_does_not_pass_through_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    given_to: list[int] = []
    own = WebSocketsSansIOProtocol.data_received

    def counted(self: WebSocketsSansIOProtocol, data: bytes) -> None:
        given_to.append(len(data))
        own(self, data)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", counted)
    whole, ping = frame(Opcode.BINARY, bytes(50_000)), frame(Opcode.PING, b"between them")
    pieces = [whole, whole[:5], whole[5:40_000], whole[40_000:], ping[:1], ping[1:4], ping[4:] + whole + whole[:1], whole[1:]]
    heard, _ = await outcome(PlainFrames, pieces, largest=50_000)
    assert [message.get("bytes") for message in heard[:-1]] == [bytes(50_000)] * 4
    assert given_to == [len(REQUEST), 1, 3, len(ping) - 4]
