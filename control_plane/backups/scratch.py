"""A PostgreSQL that lives for one proof: in a private folder, on a unix socket only, gone afterwards, whatever ends the proof.

Made with the programs that also make and restore backups, wherever those are. Nothing in it has to survive: it syncs nothing. A
proof that was killed leaves a copy of everything in its folder, which the next one removes: who lives holds a lock on theirs.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg

from control_plane.backups.programs import ProgramError, environment_of, pieces_of, program

_READY_WITHIN_S, _POLL_S = 120.0, 0.05
_PREFIX, _SETTLED_AFTER_S = "vla-scratch-", 60.0
_INITDB = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")  # the folder is private
_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
_OPTIONS = {"listen_addresses": "", "fsync": "off", "full_page_writes": "off", "timezone": "UTC", "max_wal_size": "1GB"}
# PostgreSQL refuses uid 0, and a user namespace adds no user; the kernel ends the server when we end.
_AS_ROOT = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
_TIED_TO_US = ("setpriv", "--pdeathsig", "INT")


@asynccontextmanager
async def scratch_server(programs: Path | None) -> AsyncIterator[str]:
    """The address of an empty database. Raises ProgramError when no server can be started here."""
    before = _AS_ROOT if os.geteuid() == 0 else ()
    _remove_leftovers()
    # The data where TMPDIR says, because it can be large; the socket in a path that is short enough for one.
    with _private(None) as large, _private("/tmp") as folder:  # noqa: S108 -- private
        data = Path(large) / "data"
        async for _ in pieces_of((*before, program(programs, "initdb"), "-D", str(data), *_INITDB, *_LOCALE), {}):
            pass
        process = await _started((*before, *_TIED_TO_US, program(programs, "postgres"), "-D", str(data)), folder)
        try:
            url = f"postgresql://postgres@/postgres?host={quote(folder, safe='')}"
            await _until_ready(url, process)
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGQUIT)
            await process.wait()


@contextmanager
def _private(where: str | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=where, ignore_cleanup_errors=True) as folder, _locked(Path(folder)):
        yield folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises BlockingIOError when somebody else has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers() -> None:
    """Of proofs that were killed. One that has just been made may not be locked yet."""
    for folder in {*Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"), *Path("/tmp").glob(f"{_PREFIX}*")}:  # noqa: S108 -- as above
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid == os.geteuid() and time.time() - found.st_mtime > _SETTLED_AFTER_S:
                with _locked(folder):
                    shutil.rmtree(folder)


async def _started(argv: tuple[str, ...], folder: str) -> Process:
    options = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
    where = ("-c", f"unix_socket_directories={folder}")
    environment = environment_of({"LANG": "C.UTF-8", "TZ": "UTC"})
    return await asyncio.create_subprocess_exec(
        *argv, *options, *where, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env=environment
    )


async def _until_ready(url: str, process: Process) -> None:
    seen: Exception | None = None
    for _ in range(int(_READY_WITHIN_S / _POLL_S)):
        if process.returncode is not None:
            raise ProgramError(f"the scratch server ended with {process.returncode}; is there room in TMPDIR?")
        try:
            connection = await asyncpg.connect(url, timeout=5)
            await connection.close()
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            seen = error
            await asyncio.sleep(_POLL_S)
        else:
            return
    raise ProgramError(f"the scratch server did not come up ({seen})")
