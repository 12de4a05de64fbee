"""What a server is, as a value: how to prepare, start, recognise as ready, and stop it.

Each server's own file builds one of these; the supervisor and the test fixtures run it. Knows no server by name.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


class NotReadyError(Exception):
    """The server does not answer as it should, yet; the text says what was seen instead."""


class BusyError(NotReadyError):
    """The server answers, but has no room at this moment: a reason to wait, never to restart it."""


class StartError(Exception):
    """The server cannot be started until a person changes something; the text says what, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A TCP port that a server takes, and the setting that moves it."""

    number: int
    setting: str
    address: str = "127.0.0.1"


def _nothing(*_: object) -> None:
    """For servers that need no preparation, or leave nothing behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One child process.

    `prepare` is idempotent and may block. `check` is given the running process's pid and raises NotReadyError until it answers.
    `tidy` is given the pid of an ended process and removes what that left behind.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    check: Callable[[int], Awaitable[None]]
    prepare: Callable[[], None] = _nothing
    tidy: Callable[[int], None] = _nothing
    ports: tuple[Port, ...] = ()
    depends_on: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 5.0
    start_timeout_s: float = 30.0
    probe_every_s: float | None = None  # `check` is repeated, and the server restarted when it fails twice in a row
    # Asked before the process is replaced while others go on: returns when nobody needs it any more. None: it is simply stopped.
    retire: Callable[[int], Awaitable[None]] | None = None
    is_awaited: bool = True  # False: the start does not wait for it, and goes on when it cannot be had
    is_one_shot: bool = False  # ready when it has ended well; never restarted


async def wait_until_ready(server: Server, pid: int, *, is_alive: Callable[[], bool], poll_s: float = 0.02) -> None:
    """Returns when `check` passes. Raises StartError when the process has ended or the start time-out is over."""
    seen = "no answer"
    try:
        async with asyncio.timeout(server.start_timeout_s):
            while True:
                if not is_alive():
                    raise StartError(f"{server.name}: ended while starting ({seen})")
                try:
                    return await server.check(pid)
                except NotReadyError as error:
                    seen = str(error)
                await asyncio.sleep(poll_s)
    except TimeoutError:
        raise StartError(f"{server.name}: not ready after {server.start_timeout_s:g} s ({seen})") from None
