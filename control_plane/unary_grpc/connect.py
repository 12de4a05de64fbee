"""Opens a connection to the first of a host's addresses that answers, as browsers do (RFC 8305, "happy eyeballs").

The next address is tried when the one before has failed, or has not answered for a moment: one that swallows packets must not use
up the time of those that live. asyncio can do it by itself; uvloop, which serves, cannot. Knows no deadline: the caller has one.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from control_plane.unary_grpc.connection import Connection

_UNHEARD_MS = 5_000
_IDLE_S = 10


async def connect(head: bytes, host: str, port: int, *, within_s: float) -> Connection:
    """A connection whose peer has said its settings; every address is tried in the first half of `within_s`. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    tries = [partial(_greet, head, address, port) for address in addresses]
    return await _first(tries, pace_s=within_s / 2 / len(tries))


async def _first(tries: Sequence[Callable[[], Coroutine[Any, Any, Connection]]], *, pace_s: float) -> Connection:
    waiting = deque(tries)
    running: set[asyncio.Task[Connection]] = set()
    try:
        while True:
            if waiting:
                running.add(asyncio.create_task(waiting.popleft()()))
            timeout_s = pace_s if waiting else None
            await asyncio.wait(running, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for one in [one for one in running if one.done()]:
                running.remove(one)
                if one.exception() is None or not (waiting or running):
                    return one.result()
    finally:
        for one in running:
            one.cancel()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(outcome, Connection):  # it came second
                await outcome.close()


async def _greet(head: bytes, address: str, port: int) -> Connection:
    connection, is_ready = Connection(head), False
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: connection, address, port)
        _watch(transport.get_extra_info("socket"))
        await connection.ready
        is_ready = True
    finally:
        if not is_ready:
            await connection.close()
    return connection


def _watch(connected: socket.socket) -> None:
    """A peer that silently vanished (no FIN) is noticed by the kernel after `_UNHEARD_MS` of unacknowledged bytes."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _IDLE_S // 3)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS)
