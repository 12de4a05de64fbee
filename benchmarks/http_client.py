"""A keep-alive HTTP/1.1 client that costs the load generator next to nothing, so that the measured machine is the server's.

One connection carries one request at a time (no pipelining), as robots do. Knows nothing of what it sends. Used by the open-loop
generator and the kill test; not a general client: it expects Content-Length, which our servers always send.
"""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where requests go and what each one is: `request` is the complete head and body."""

    host: str
    port: int
    request: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Status 0 means the connection broke before an answer: the outcome is unknown."""

    status: int
    head: bytes
    body: bytes


LOST = Reply(status=0, head=b"", body=b"")


def post(path: str, *, body: bytes, content_type: str, key: str, host: str = "127.0.0.1") -> bytes:
    """The bytes of one POST with a bearer key."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One kept-alive connection; `send` answers with a Reply, never raises for network faults."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiter: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        reply, used = parse_reply(self._buffer)
        if reply is not None and self._waiter is not None:
            del self._buffer[:used]
            self._settle(reply)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the protocol's signature
        self._transport = None
        self._settle(LOST)

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes) -> Reply:
        """Sends one request and waits for its answer."""
        if self._transport is None:
            return LOST
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        """Closes the socket; a pending request is LOST."""
        if self._transport is not None:
            self._transport.close()

    def _settle(self, reply: Reply) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(reply)


def parse_reply(buffer: bytearray) -> tuple[Reply | None, int]:
    """The first complete response in `buffer` and its length in bytes, or (None, 0) while it is incomplete."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None, 0
    head = bytes(buffer[: end + 2])
    at = head.lower().find(b"content-length:")
    length = 0 if at < 0 else int(head[at + 15 : head.index(b"\r\n", at)])
    total = end + 4 + length
    if len(buffer) < total:
        return None, 0
    return Reply(status=int(head[9:12]), head=head, body=bytes(buffer[end + 4 : total])), total


class Pool:
    """Idle connections to one address, opened on demand; broken ones are dropped."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[Connection] = []

    async def send(self, request: bytes) -> Reply:
        """Sends on an idle connection, or on a new one."""
        connection = await self._take()
        if connection is None:
            return LOST
        reply = await connection.send(request)
        if connection.is_open:
            self._idle.append(connection)
        return reply

    def close(self) -> None:
        """Closes every idle connection."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        try:
            _, fresh = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        except OSError:
            return None
        return fresh
