"""The write-ahead log in the store, file by file, as PostgreSQL hands it over and asks for it back.

Each server has a folder: one that is set up anew counts its files from the beginning again. Whose a file is, the data folder
around it says (PostgreSQL's system identifier), so neither direction can take the wrong one. What has been sent under a name
stays: the same file again is no fault (PostgreSQL repeats itself after a crash), another one is. Each has a salt of its own.
"""

import asyncio
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from control_plane.backups.manifest import WAL
from control_plane.backups.sealing import DamagedBackupError, Seal, seal_of
from control_plane.backups.store import Vault
from control_plane.objects import NoSuchObjectError, ObjectStoreAwayError

NO_SUCH_FILE = 3  # how `wal-fetch` ends when the store certainly has no such file
_NAME = re.compile(r"[0-9A-F]{8}(\.history|[0-9A-F]{16}(\.partial|\.[0-9A-F]{8}\.backup)?)")
_SALT_BYTES = 16
_CONTROL_FILE = Path("global") / "pg_control"
_IDENTIFIER_BYTES = 8  # how that file begins, in every version of PostgreSQL
_STARTS_WITHIN_S = 60  # after a reboot the store may come later than the server that recovers from it


class LogFileError(Exception):
    """This file of the log cannot be kept or given; the text says why."""


class NoSuchLogFileError(LogFileError):
    """The store has no file of that name: for a server that recovers, the end of the log."""


def server_around(file: Path) -> str:
    """The server in whose pg_wal that file lies or shall lie, as pg_control_system() names it. Raises LogFileError."""
    control = file.parent.parent / _CONTROL_FILE
    try:
        with control.open("rb") as opened:
            return str(int.from_bytes(opened.read(_IDENTIFIER_BYTES), sys.byteorder, signed=True))  # as SQL has it
    except OSError as error:
        raise LogFileError(f"{file}: is not in the data folder of a PostgreSQL ({control}: {error.strerror})") from None


async def push(vault: Vault, path: Path) -> None:
    """Keeps it. Raises LogFileError; returns only when the store has it."""
    where, data = f"{server_around(path)}/{_checked(path.name)}", await asyncio.to_thread(path.read_bytes)
    try:
        there = await _read(vault, where)
    except NoSuchLogFileError:
        salt = secrets.token_bytes(_SALT_BYTES)
        sealed = await asyncio.to_thread(_seal(vault, where, salt).close, data, number=0, is_last=True)
        await vault.objects.put(f"{WAL}{where}", salt + sealed)
        return
    if there != data:
        raise LogFileError(f"{where}: the store has another file of that name; does a copy of this server run elsewhere?")


async def fetch(vault: Vault, name: str, path: Path) -> None:
    """Gives it back, whole or not at all; waits for a store that is starting. Raises NoSuchLogFileError, DamagedBackupError."""
    data = await _read_patiently(vault, f"{server_around(path)}/{_checked(name)}")
    aside = path.with_name(f"{path.name}.fetched")
    await asyncio.to_thread(aside.write_bytes, data)
    await asyncio.to_thread(aside.replace, path)


async def forget_before(vault: Vault, server: str, first_needed: str | None) -> Sequence[str]:
    """Removes files of that server's log that no kept base backup needs: the oldest of those begins in `first_needed`."""
    folder = f"{WAL}{server}/"
    names = [stored.key.removeprefix(folder) for stored in await vault.objects.find(folder)]
    old = [name for name in names if first_needed is None or (_place(name) or first_needed[8:24]) < first_needed[8:24]]
    if old:
        await vault.objects.remove([f"{folder}{name}" for name in old])
    return old


async def _read_patiently(vault: Vault, where: str) -> bytes:
    for _ in range(_STARTS_WITHIN_S):
        try:
            return await _read(vault, where)
        except ObjectStoreAwayError:
            await asyncio.sleep(1)
    return await _read(vault, where)


async def _read(vault: Vault, where: str) -> bytes:
    try:
        kept = await vault.objects.get(f"{WAL}{where}")
    except NoSuchObjectError:
        raise NoSuchLogFileError(f"{where}: is not in the store") from None
    if len(kept) <= _SALT_BYTES:
        raise DamagedBackupError(f"{where}: is cut short")
    return await asyncio.to_thread(_seal(vault, where, kept[:_SALT_BYTES]).open, kept[_SALT_BYTES:], number=0, is_last=True)


def _seal(vault: Vault, where: str, salt: bytes) -> Seal:
    return seal_of(vault.key, f"log {where} {salt.hex()}")


def _place(name: str) -> str | None:
    """Where in the log it is, whatever its time line; None for a history, which is small and may be needed."""
    return None if name.endswith(".history") else name[8:24]


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise LogFileError(f"{name!r} is not the name of a file of the write-ahead log")
    return name
