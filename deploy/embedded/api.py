"""The control plane's own processes: the API processes on unix sockets behind nginx, the recorder, and the one step before them.

They get only what `control_plane.settings.Settings` knows, in their environment. Only this package starts the control plane.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from prometheus_client import multiprocess

from control_plane.drain import DRAIN_SIGNAL
from control_plane.metrics import MULTIPROC_DIR
from deploy.embedded.canary import connection_status
from deploy.embedded.server import BusyError, NotReadyError, Server
from deploy.embedded.settings import ROOT
from deploy.embedded.state import State

_APP = "control_plane.app:create_app_from_environment"
_SOCKETS = "control_plane.protocols.plain_frames:PlainFrames"
_RETIRED_WITHIN_S = 40.0  # longer than nginx waits for an answer, and than it keeps an idle connection
_LOOK_S = 0.1
_CONNECTED = "03"  # as /proc/net/unix has it
_GRACE_S = 3  # for requests that run when the stop signal comes


def socket_options(max_message_bytes: int) -> tuple[str, ...]:
    """What uvicorn is told of WebSockets: raw frames are not worth packing, and pings keep nginx's 30 s from running out."""
    return (
        *("--ws", _SOCKETS, "--ws-max-size", str(max_message_bytes), "--ws-per-message-deflate", "false"),
        *("--ws-ping-interval", "20", "--ws-ping-timeout", "20"),
    )


def api(
    number: int, *, state: State, environment: Mapping[str, str], depends_on: tuple[str, ...], max_message_bytes: int
) -> Server:
    """One API process."""
    path = api_socket(state, number)
    return Server(
        name=f"api-{number}",
        argv=(
            *(sys.executable, "-m", "uvicorn", _APP, "--factory", "--uds", str(path), "--lifespan", "on"),
            "--no-proxy-headers",  # identity/address.py decides what a caller's address is
            *("--no-access-log", "--no-server-header", "--timeout-graceful-shutdown", str(_GRACE_S)),
            *socket_options(max_message_bytes),
            *("--timeout-keep-alive", "75"),  # longer than nginx keeps an idle connection, so that nginx closes first
        ),
        environment={**environment, MULTIPROC_DIR: str(state.metrics)},
        folder=ROOT,
        prepare=lambda: _clear(path),
        tidy=lambda pid: _forget(state, pid),
        check=lambda _: asyncio.to_thread(_answers, path),
        depends_on=depends_on,
        retire=lambda pid: _retire(pid, path),
        stop_timeout_s=_GRACE_S + 2.0,
        probe_every_s=10.0,  # its socket may have been removed under it: /tmp is everyone's
    )


def worker(*, state: State, environment: Mapping[str, str], depends_on: tuple[str, ...]) -> Server:
    """The recorder."""
    return Server(
        name="worker",
        argv=(sys.executable, "-m", "control_plane.cli", "worker"),
        environment={**environment, MULTIPROC_DIR: str(state.metrics)},
        folder=ROOT,
        tidy=lambda pid: _forget(state, pid),
        check=lambda pid: _counts(state, pid),
        depends_on=depends_on,
    )


def database(*, state: State, environment: Mapping[str, str], depends_on: tuple[str, ...]) -> Server:
    """The step before them: migrations and the demo customer."""
    return Server(
        name="database",
        argv=(sys.executable, "-m", "deploy.embedded.database", str(state.root)),
        environment=environment,
        folder=ROOT,
        check=_ended_well,
        depends_on=depends_on,
        is_one_shot=True,
    )


def api_socket(state: State, number: int) -> Path:
    """Where that API process listens."""
    return state.sockets / f"api-{number}"


def _clear(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)


async def _retire(pid: int, path: Path) -> None:
    """Nobody can come any more, who is there is told to leave with the next answer, and whoever has not is waited for.

    nginx asks another process when it finds no socket (nothing was sent by then); its own idle connections it ends by itself.
    """
    await asyncio.to_thread(path.unlink, missing_ok=True)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, DRAIN_SIGNAL)
    for _ in range(int(_RETIRED_WITHIN_S / _LOOK_S)):
        if not _connections(path):
            return
        await asyncio.sleep(_LOOK_S)


def _connections(path: Path) -> int:
    """Open ones on a socket that was bound to that path, wherever the path leads by now."""
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return sum(1 for words in lines if words[-1] == str(path) and words[5] == _CONNECTED)


def empty_metrics(state: State) -> None:
    """Counters belong to one life of the service; files of processes that are gone would be added up for ever."""
    shutil.rmtree(state.metrics)
    state.metrics.mkdir(mode=0o700)


async def _counts(state: State, pid: int) -> None:
    """The recorder answers nobody; once its settings are read and everything is built it has files of metrics."""
    if not any(state.metrics.glob(f"*_{pid}.db")):
        raise NotReadyError("no metrics yet")


async def _ended_well(_: int) -> None:
    """A step that is run once is judged by how it ends."""


def _forget(state: State, pid: int) -> None:
    multiprocess.mark_process_dead(pid, path=str(state.metrics))  # type: ignore[no-untyped-call]  # upstream is untyped


class UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Called by HTTPConnection when it needs a line."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _answers(path: Path) -> None:
    connection = UnixConnection(path, timeout_s=2.0)
    try:
        if (status := connection_status(connection, "/health")) != 200:
            raise NotReadyError(f"HTTP {status}")
    except TimeoutError:
        raise BusyError("no answer in time") from None
    except (OSError, HTTPException) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
