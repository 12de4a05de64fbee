"""A server that speaks HTTP/2 frame by frame as a test tells it: what real servers do seldom, or never, can be tried."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from hpack import Decoder, Encoder

from control_plane.unary_grpc.channel import Channel
from control_plane.unary_grpc.frames import OUR_MAX_FRAME_BYTES, PREFACE, Cutter, Flag, Frame, Kind, Setting, frame, settings

PATH = "/echo.Echo/Say"
END = Flag.END_HEADERS | Flag.END_STREAM


class Peer:
    """One connection, seen from the server. Frames that only keep it alive are answered and not given to the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._cutter = Cutter()
        self._came: list[Frame] = []
        self._decoder = Decoder()
        self.is_closed = asyncio.Event()

    async def hello(self, said: Mapping[Setting, int]) -> None:
        """The preface and the settings, both ways."""
        assert await self._reader.readexactly(len(PREFACE)) == PREFACE
        self.send(settings(dict(said)))

    def send(self, *parts: bytes) -> None:
        """Bytes to the client."""
        self._writer.write(b"".join(parts))

    def remember_no_headers(self) -> None:
        """The client has to say that its table is empty before its next request, or that cannot be read (RFC 7541 §4.2)."""
        self.send(frame(Kind.SETTINGS, 0, 0, (1).to_bytes(2, "big") + bytes(4)))
        self._decoder.max_allowed_table_size = 0

    def stop_reading(self) -> None:
        """What the client sends from here on stays with it."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined] # it is a socket's, which reads too

    def say_the_last(self) -> None:
        """Nothing more will come from here."""
        self._writer.write_eof()

    async def next(self, *kinds: Kind) -> Frame:
        """The next frame of one of these kinds; others are passed over. EOFError when the client has gone."""
        while True:
            while self._came:
                one = self._came.pop(0)
                if one.kind in kinds:
                    return one
            data = await self._reader.read(65_536)
            if not data:
                self.is_closed.set()
                raise EOFError
            self._came += self._cutter.cut(data)

    async def asked(self) -> tuple[int, dict[str, str], bytes]:
        """One whole request: its stream, its head and its message."""
        first = await self.next(Kind.HEADERS)
        head = {str(name): str(value) for name, value in self._decoder.decode(first.payload)}
        body = b""
        while True:
            one = await self.next(Kind.DATA)
            assert one.stream == first.stream
            body += one.payload
            if one.flags & Flag.END_STREAM:
                return first.stream, head, body[5:]

    def answer(self, stream: int, message: bytes) -> None:
        """A good one."""
        self.head(stream, {":status": "200", "content-type": "application/grpc"}, Flag.END_HEADERS)
        whole = grpc_message(message)
        pieces = (whole[at : at + OUR_MAX_FRAME_BYTES] for at in range(0, len(whole), OUR_MAX_FRAME_BYTES))
        self.send(*(frame(Kind.DATA, 0, stream, piece) for piece in pieces))
        self.head(stream, {"grpc-status": "0"}, END)

    def head(self, stream: int, headers: Mapping[str, str], flags: int) -> None:
        """One header block."""
        self.send(frame(Kind.HEADERS, flags, stream, block(headers)))


async def echo(peer: Peer) -> None:
    """Answers every request with its own message."""
    while True:
        stream, _, message = await peer.asked()
        peer.answer(stream, message)


def grpc_message(message: bytes) -> bytes:
    """With gRPC's five bytes before it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def block(headers: Mapping[str, str]) -> bytes:
    """A header block as a server with no table writes it."""
    encoder = Encoder()
    encoder.header_table_size = 0
    written: bytes = encoder.encode(list(headers.items()))
    return written


@asynccontextmanager
async def server_that(behave: Callable[[Peer], Awaitable[None]], **said: int) -> AsyncIterator[int]:
    """The port of a server that does what `behave` does on each connection, with these settings by name."""
    failures: list[BaseException] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        try:
            await peer.hello({Setting[name]: value for name, value in said.items()})
            with suppress(EOFError, ConnectionError):
                await behave(peer)
        except (AssertionError, ValueError) as failure:
            failures.append(failure)
        finally:
            peer.is_closed.set()
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
    assert not failures, failures


@asynccontextmanager
async def channel_to(behave: Callable[[Peer], Awaitable[None]], **said: int) -> AsyncIterator[Channel]:
    """A channel to such a server."""
    async with server_that(behave, **said) as port:
        channel = Channel(f"127.0.0.1:{port}", PATH)
        try:
            yield channel
        finally:
            await channel.close()
