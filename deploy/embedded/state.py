"""The state folder: who owns it now, its secrets, and where each server keeps its own.

    lock         held by the running supervisor, which also writes its pid into it
    secrets.json 0600, made once; losing the pepper voids every API key
    status.json  0600, what `vlaapi status` shows (status.py)
    logs/        one file per server; spool/, metrics/, postgres/, valkey/, seaweedfs/, triton/, nginx/

Unix sockets lie in a short private folder under /tmp, because the kernel allows 107 bytes for their path.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from deploy.embedded.server import StartError

_MIN_FREE_BYTES = 500_000_000
_LOG_KEEP_BYTES = 10_000_000


class AlreadyRunningError(StartError):
    """Another supervisor owns this state folder."""

    def __init__(self, root: Path, pid: int | None) -> None:
        self.pid = pid
        super().__init__(f"already running (pid {pid}) on {root}; `vlaapi status` shows it, `vlaapi down` stops it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Made once per state folder."""

    postgres_password: str
    valkey_password: str
    key_pepper: str
    object_store_secret_key: str
    backup_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The folder and what lies where in it. `sockets` is outside it."""

    root: Path
    sockets: Path

    @property
    def logs(self) -> Path:
        """One file per server."""
        return self.root / "logs"

    @property
    def spool(self) -> Path:
        """Usage events that wait for Redis."""
        return self.root / "spool"

    @property
    def metrics(self) -> Path:
        """Prometheus' files of the running processes; emptied at each start."""
        return self.root / "metrics"

    def log(self, name: str) -> Path:
        """The log of one server."""
        return self.logs / f"{name}.log"


def open_state(root: Path) -> State:
    """Makes the folders. Raises StartError when the disk or its rights do not allow it."""
    root = root.absolute()
    short = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    state = State(root=root, sockets=Path(f"/tmp/vla-{os.geteuid()}-{short}"))  # noqa: S108 -- checked below
    try:
        for folder in (root, state.logs, state.spool, state.metrics, state.sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / ".writable").touch()
        (root / ".writable").unlink()
    except OSError as error:
        raise StartError(f"{error.filename}: {error.strerror}; set VLA_STATE_DIR to a folder that can be written") from None
    _refuse_foreign(state.sockets)
    if (free := shutil.disk_usage(root).free) < _MIN_FREE_BYTES:
        raise StartError(f"{root}: only {free // 1_000_000} MB free, {_MIN_FREE_BYTES // 1_000_000} MB are needed")
    return state


def _refuse_foreign(folder: Path) -> None:
    """The parent is everyone's: a folder of somebody else under our name must not get our sockets."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise StartError(f"{folder}: not a private folder of this user; remove it")


def close_state(state: State) -> None:
    """Removes what lies outside the folder. Call while owning it, when nothing runs any more."""
    shutil.rmtree(state.sockets, ignore_errors=True)


@contextlib.contextmanager
def owned(state: State) -> Iterator[None]:
    """Holds the state folder for this process. Raises AlreadyRunningError; the kernel lets go when the process ends."""
    with (state.root / "lock").open("a+") as lock:
        if not _locked(lock):
            raise AlreadyRunningError(state.root, owner_of(state.root))
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _locked(lock: IO[str]) -> bool:
    """Whether the lock is ours now. Asks a few times, because `owner_of` in another process takes it for a moment."""
    for _ in range(5):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)
    return False


def owner_of(root: Path) -> int | None:
    """The pid of the supervisor that holds the folder; None when nobody does."""
    try:
        with (root / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except FileNotFoundError:
        return None
    return None


def read_secrets(state: State) -> Secrets:
    """The secrets of this folder, made at the first call."""
    path = state.root / "secrets.json"
    if not path.exists():
        fresh = Secrets(
            postgres_password=secrets.token_hex(24),
            valkey_password=secrets.token_hex(24),
            key_pepper=secrets.token_hex(32),
            object_store_secret_key=secrets.token_hex(24),
            backup_key=secrets.token_hex(32),
        )
        write_private(path, json.dumps(asdict(fresh), indent=2).encode())
    try:
        kept = json.loads(path.read_text())
        # The secrets that a folder of a release before may lack; no other is ever made anew.
        added = {"object_store_secret_key": secrets.token_hex(24), "backup_key": secrets.token_hex(32)}
        found = Secrets(**(added | kept))
    except (ValueError, TypeError):
        raise StartError(f"{path}: cannot be read as secrets; restore it, or remove {state.root} to start anew") from None
    if asdict(found) != kept:
        write_private(path, json.dumps(asdict(found), indent=2).encode())
    return found


def write_private(path: Path, data: bytes, *, is_durable: bool = True) -> None:
    """Replaces a file by one that only this user can read, whole or not at all; durable ones survive a power cut."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 -- a descriptor
        file.write(data)
        file.flush()
        if is_durable:
            os.fsync(file.fileno())
    aside.replace(path)


def rotate(log: Path, *, keep_bytes: int = _LOG_KEEP_BYTES) -> None:
    """Moves a log that has grown beyond `keep_bytes` aside, over the one moved before."""
    if log.exists() and log.stat().st_size > keep_bytes:
        log.replace(log.with_name(f"{log.name}.1"))
