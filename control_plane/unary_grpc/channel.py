"""The way to one server: connects when there is something to ask, and again after a connection has ended.

A connection is awaited before anything is sent, at most for `CONNECT_S`, so that a server that is not there has certainly seen
nothing. `connect.py` does it.
"""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from control_plane.kept_open import KeptOpen
from control_plane.unary_grpc.connect import connect
from control_plane.unary_grpc.connection import CallFailedError, Connection, Status
from control_plane.unary_grpc.heads import request_head

CONNECT_S = 0.5  # a host that swallows packets must not use up a whole deadline before another is asked


class AddressError(ValueError):
    """Not host:port."""


class Channel:
    """One method of one server. Opens in the event loop of its first call; close it when the process ends."""

    def __init__(self, address: str, path: str) -> None:
        """`address` is host:port, an IPv6 host in brackets; `path` is /package.Service/Method. Raises AddressError."""
        self._host, self._port = host_and_port(address)
        self._head = request_head(path, address)
        self._kept = KeptOpen(self._open, closed=_closed)
        self.close = self._kept.close

    async def ask(self, message: Sequence[bytes | memoryview], timeout_s: float) -> bytes:
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

    async def _connected(self, timeout_s: float) -> Connection:
        if (connection := self._kept.at_hand) is not None:
            return connection
        try:
            async with asyncio.timeout(timeout_s):
                return await self._kept.reach()
        except TimeoutError:
            raise CallFailedError(Status.DEADLINE_EXCEEDED, "no connection in time", was_sent=False) from None

    async def _open(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await connect(self._head, self._host, self._port, within_s=CONNECT_S)
        except (OSError, TimeoutError) as error:
            raise CallFailedError(
                Status.UNAVAILABLE, f"no connection: {str(error) or 'no answer in time'}", was_sent=False
            ) from None


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


def _closed() -> CallFailedError:
    return CallFailedError(Status.UNAVAILABLE, "the channel was closed", was_sent=False)
