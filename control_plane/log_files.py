"""`vlaapi backup wal-push | wal-fetch` as PostgreSQL starts them, once for every file of its log.

A composition root of its own: to load all commands takes several times what one file takes, each minute or for each of thousands
in a recovery. The words are those of `control_plane.cli`, which answers whatever else is asked, `--help` too.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, cast

from control_plane.backups.sealing import DamagedBackupError
from control_plane.backups.store import Vault
from control_plane.backups.wal import NO_SUCH_FILE, LogFileError, NoSuchLogFileError, fetch, push
from control_plane.local_service import store_settings
from control_plane.objects import ObjectStoreAwayError, create_objects
from control_plane.settings import SettingsError

Work = Callable[[Vault], Awaitable[None]]


def main() -> NoReturn:
    """Runs one of the two and ends the process."""
    words = sys.argv[1:]
    match words:
        case ["backup", "wal-push", path] if not path.startswith("-"):
            sys.exit(_status(lambda vault: push(vault, Path(path))))
        case ["backup", "wal-fetch", name, path] if not name.startswith("-") and not path.startswith("-"):
            sys.exit(_status(lambda vault: fetch(vault, name, Path(path))))
        case _:
            os.execv(sys.executable, [sys.executable, "-m", "control_plane.cli", *words])  # noqa: S606 -- ourselves, no shell


def _status(work: Work) -> int:
    try:
        asyncio.run(_with_vault(work))
    except NoSuchLogFileError as error:
        return _told(str(error), NO_SUCH_FILE)
    except (LogFileError, DamagedBackupError) as error:
        return _told(str(error), 1)
    except ObjectStoreAwayError as error:
        return _told(f"the object store cannot be reached or does not take it ({error})", 1)
    except SettingsError as error:
        return _told("; ".join(str(error).splitlines()), 2)
    except asyncio.CancelledError:
        return _told("was ended by SIGTERM before it was done", 128 + signal.SIGTERM)
    return 0


def _told(fault: str, status: int) -> int:
    sys.stderr.write(f"vlaapi: {fault}\n")
    return status


async def _with_vault(work: Work) -> None:
    ourselves = cast("asyncio.Task[None]", asyncio.current_task())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ourselves.cancel)
    place, key = store_settings(os.environ).backups
    objects = create_objects(place)
    try:
        await work(Vault(objects=objects, key=key))
    finally:
        await objects.aclose()


if __name__ == "__main__":
    main()
