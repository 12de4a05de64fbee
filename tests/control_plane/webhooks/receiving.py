"""A real HTTP server of a customer: keeps what it gets and answers as the test says. Plain asyncio, one request a connection."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass
class Receiver:
    """`answer` makes the raw HTTP answer to the n-th request."""

    answer: Callable[[int], bytes] = lambda _: b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""
    hold: asyncio.Event | None = None

    @property
    def ids(self) -> list[str]:
        """The webhook-id of each request."""
        return [headers["webhook-id"] for headers, _ in self.got]

    def body(self, at: int = -1) -> Any:
        """What was told."""
        return msgspec.json.decode(self.got[at][1])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.got.append((headers, body))
            self.paths.append(first.split(" ")[1])
            if self.hold is not None:
                await self.hold.wait()
            writer.write(self.answer(len(self.got)))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def status(line: str, *headers: str, body: bytes = b"") -> bytes:
    """A raw answer, `500 Oops`."""
    head = "\r\n".join([f"HTTP/1.1 {line}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""])
    return head.encode() + body


@asynccontextmanager
async def receiving(receiver: Receiver) -> AsyncIterator[Receiver]:
    """A running server; its address is in `receiver.url`."""
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks?a=1"
    try:
        yield receiver
    finally:
        if receiver.hold is not None:
            receiver.hold.set()
        server.close()
