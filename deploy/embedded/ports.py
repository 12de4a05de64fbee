"""Finds out before the start which ports are taken, by whom, and which setting moves each. Knows no server."""

import contextlib
import socket
from collections.abc import Iterable
from typing import Any

import psutil

from deploy.embedded.server import Port, StartError


def refuse_taken(ports: Iterable[tuple[str, Port]]) -> None:
    """Raises StartError naming every taken port at once. `ports` are (server, port)."""
    taken = [(name, port) for name, port in ports if not _is_free(port)]
    lines = [f"{name}: port {port.number} {_reason(port.number)}; {port.setting} moves it" for name, port in taken]
    if lines:
        raise StartError("\n".join(lines))


def _is_free(port: Port) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are merely fading away are no hindrance
        try:
            probe.bind((port.address, port.number))
        except OSError:
            return False
    return True


def _reason(number: int) -> str:
    if number < 1024 and not _listening(number):
        return "needs root"
    return f"is taken by {_owner(number)}"


def _listening(number: int) -> list[Any]:
    return [line for line in psutil.net_connections("tcp") if line.status == psutil.CONN_LISTEN and line.laddr.port == number]


def _owner(number: int) -> str:
    """Which process listens there; of other users' processes the kernel does not say."""
    pids = [line.pid for line in _listening(number) if line.pid is not None]
    with contextlib.suppress(psutil.Error):
        if pids:
            return f"{psutil.Process(pids[0]).name()} (pid {pids[0]})"
    return "another process"
