"""The write-ahead log in the store, file by file, as PostgreSQL hands it over and asks for it back.

What has been sent under a name stays: the same file again is no fault (PostgreSQL repeats itself after a crash), another one is.
Each file is sealed under a salt of its own, because its name may come again in another life of the server.
"""

import asyncio
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from control_plane.backups.manifest import WAL
from control_plane.backups.sealing import DamagedBackupError, Seal, seal_of
from control_plane.backups.store import Vault
from control_plane.objects import NoSuchObjectError, ObjectStoreAwayError

_NAME = re.compile(r"[0-9A-F]{8}(\.history|[0-9A-F]{16}(\.partial|\.[0-9A-F]{8}\.backup)?)")
_SALT_BYTES = 16
_STARTS_WITHIN_S = 60  # after a reboot the store may come later than the server that recovers from it


class LogFileError(Exception):
    """This file of the log cannot be kept or given; the text says why."""


class NoSuchLogFileError(LogFileError):
    """The store has no file of that name: for a server that recovers, the end of the log."""


async def push(vault: Vault, path: Path) -> None:
    """Keeps it. Raises LogFileError; returns only when the store has it."""
    name, data = _checked(path.name), await asyncio.to_thread(path.read_bytes)
    try:
        there = await _read(vault, name)
    except NoSuchLogFileError:
        salt = secrets.token_bytes(_SALT_BYTES)
        sealed = await asyncio.to_thread(_seal(vault, name, salt).close, data, number=0, is_last=True)
        await vault.objects.put(f"{WAL}{name}", salt + sealed)
        return
    if there != data:
        raise LogFileError(f"{name}: the store has another file of that name; is its bucket another server's?")


async def fetch(vault: Vault, name: str, path: Path) -> None:
    """Gives it back, whole or not at all; waits for a store that is starting. Raises NoSuchLogFileError, DamagedBackupError."""
    data = await _read_patiently(vault, _checked(name))
    aside = path.with_name(f"{path.name}.fetched")
    await asyncio.to_thread(aside.write_bytes, data)
    await asyncio.to_thread(aside.replace, path)


async def forget_before(vault: Vault, first_needed: str) -> Sequence[str]:
    """Removes files that no kept base backup needs. `first_needed` is the file in which the oldest of those begins."""
    names = [stored.key.removeprefix(WAL) for stored in await vault.objects.find(WAL)]
    old = [name for name in names if _place(name) is not None and (_place(name) or "") < first_needed[8:24]]
    if old:
        await vault.objects.remove([f"{WAL}{name}" for name in old])
    return old


async def _read_patiently(vault: Vault, name: str) -> bytes:
    for _ in range(_STARTS_WITHIN_S):
        try:
            return await _read(vault, name)
        except ObjectStoreAwayError:
            await asyncio.sleep(1)
    return await _read(vault, name)


async def _read(vault: Vault, name: str) -> bytes:
    try:
        kept = await vault.objects.get(f"{WAL}{name}")
    except NoSuchObjectError:
        raise NoSuchLogFileError(f"{name}: is not in the store") from None
    if len(kept) <= _SALT_BYTES:
        raise DamagedBackupError(f"{name}: is cut short")
    return await asyncio.to_thread(_seal(vault, name, kept[:_SALT_BYTES]).open, kept[_SALT_BYTES:], number=0, is_last=True)


def _seal(vault: Vault, name: str, salt: bytes) -> Seal:
    return seal_of(vault.key, f"log {name} {salt.hex()}")


def _place(name: str) -> str | None:
    """Where in the log it is, whatever its time line; None for a history, which is small and may be needed."""
    return None if name.endswith(".history") else name[8:24]


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise LogFileError(f"{name!r} is not the name of a file of the write-ahead log")
    return name
