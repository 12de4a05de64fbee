"""The way to one server: connects when there is something to ask, and again after a connection has ended.

A connection is awaited before anything is sent, at most for `CONNECT_S`, so that a server that is not there has certainly seen
nothing. A peer that silently vanished (no FIN) is noticed by the kernel after `_UNHEARD_MS` of unacknowledged bytes.
"""

import asyncio
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from control_plane.unary_grpc.connection import CallFailedError, Connection, Status
from control_plane.unary_grpc.heads import request_head

CONNECT_S = 0.5  # a host that swallows packets must not use up a whole deadline before another is asked
_UNHEARD_MS = 5_000
_IDLE_S = 10


class AddressError(ValueError):
    """Not host:port."""


class Channel:
    """One method of one server. Opens in the event loop of its first call; close it when the process ends."""

    def __init__(self, address: str, path: str) -> None:
        """`address` is host:port, an IPv6 host in brackets; `path` is /package.Service/Method. Raises AddressError."""
        self._host, self._port = host_and_port(address)
        self._head = request_head(path, address)
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None

    async def ask(self, message: Sequence[bytes], timeout_s: float) -> bytes:
        """The answer to one message, given in parts. Raises CallFailedError.

        What a server has certainly not seen (it goes away, or refused the stream) is asked once more in the time that is left.
        """
        clock = asyncio.get_running_loop().time
        ends_s = clock() + timeout_s
        connection = await self._connected(timeout_s)
        try:
            return await connection.ask(message, ends_s - clock())
        except CallFailedError as error:
            if error.was_sent or error.status is not Status.UNAVAILABLE:
                raise
        connection = await self._connected(ends_s - clock())
        return await connection.ask(message, ends_s - clock())

    async def close(self) -> None:
        """Ends the connection; calls in flight fail."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self, timeout_s: float) -> Connection:
        connection = self._connection
        return connection if connection is not None and connection.is_open else await self._reach(timeout_s)

    async def _reach(self, timeout_s: float) -> Connection:
        """All who find no connection wait for the same try."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_seen)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._opening)
        except TimeoutError:
            raise CallFailedError(Status.DEADLINE_EXCEEDED, "no connection in time", was_sent=False) from None

    async def _open(self) -> Connection:
        loop, connection = asyncio.get_running_loop(), Connection(self._head)
        try:
            async with asyncio.timeout(CONNECT_S):
                transport, _ = await loop.create_connection(lambda: connection, self._host, self._port)
                _watch(transport.get_extra_info("socket"))
                await connection.ready
        except (OSError, TimeoutError) as error:
            raise CallFailedError(Status.UNAVAILABLE, f"no connection: {error}", was_sent=False) from None
        else:
            self._connection = connection
            return connection
        finally:
            if self._connection is not connection:
                await connection.close()


def host_and_port(address: str) -> tuple[str, int]:
    """Raises AddressError."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None or parts.netloc != address or parts.username is not None:
        raise AddressError(f"{address!r} is not host:port")
    return host, port


def _seen(opening: asyncio.Task[Connection]) -> None:
    """Everybody who waited may have given up: nobody is left to be told then."""
    if not opening.cancelled():
        opening.exception()


def _watch(connected: socket.socket) -> None:
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _IDLE_S // 3)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS)
