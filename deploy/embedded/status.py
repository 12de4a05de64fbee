"""What runs now, as one value: the supervisor writes it at every change, `vlaapi status` and the waiting `up --detach` read it.

Also how the next start finds what a killed supervisor could not stop: by pid and time of birth, never by name.
"""

import contextlib
import os
import signal
from enum import StrEnum
from pathlib import Path

import msgspec
import psutil

from deploy.embedded.state import write_private

STATUS_FILE = "status.json"


class Phase(StrEnum):
    """Where the whole stack is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"  # it could not be started; `error` says why


class ServerState(StrEnum):
    """Where one server is in its life."""

    WAITING = "waiting"  # for the servers that it needs
    STARTING = "starting"
    READY = "ready"
    DONE = "done"  # a step that is run once
    RESTARTING = "restarting"  # it ended; a pause before the next attempt
    GIVEN_UP = "given_up"  # it ended too often
    STOPPING = "stopping"
    STOPPED = "stopped"


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One server. `born_at` (of the process, Unix seconds) tells its pid from a later process with the same one."""

    state: ServerState
    pid: int | None = None
    born_at: float | None = None
    restarts: int = 0
    ready_after_s: float | None = None
    detail: str | None = None


class Replacement(msgspec.Struct, frozen=True, kw_only=True):
    """The last time that processes of one kind were replaced. Whoever asks for one waits for a number after the one they saw."""

    number: int
    is_over: bool = False
    told: tuple[str, ...] = ()  # a line for each process
    fault: str | None = None  # why it was given up; those after it still run


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole stack."""

    state: Phase
    supervisor_pid: int
    url: str
    demo_key: str | None = None
    ready_after_s: float | None = None
    error: str | None = None
    replacements: dict[str, Replacement] = {}  # by the beginning of the servers' names
    notes: tuple[str, ...] = ()  # what is missing, and is done without
    servers: dict[str, ServerStatus]


def write_status(root: Path, status: Status) -> None:
    """Private, because it holds the demo key."""
    write_private(root / STATUS_FILE, msgspec.json.format(msgspec.json.encode(status)), is_durable=False)


def read_status(root: Path) -> Status | None:
    """The last one written; None when there is none or it is of another version of this program."""
    try:
        return msgspec.json.decode((root / STATUS_FILE).read_bytes(), type=Status)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def born_at(pid: int) -> float | None:
    """When a process was started; None when it is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def end_leftovers(root: Path, *, grace_s: float = 6.0) -> None:
    """Sees to it that no process of the last life is left. Call while owning the folder.

    When a supervisor is killed the kernel has asked its children to end; they get time to do so before they are killed.
    """
    status = read_status(root)
    pids = [server.pid for server in status.servers.values() if server.pid and _lives(server)] if status else []
    _, left = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=grace_s)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    psutil.wait_procs(left, timeout=grace_s)


def _lives(server: ServerStatus) -> bool:
    return server.pid is not None and server.born_at is not None and born_at(server.pid) == server.born_at
