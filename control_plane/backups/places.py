"""Where a command finds the database, the store and the key; opened for one command and closed after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from control_plane.backups.dump import STATEMENT_TIMEOUT_S
from control_plane.backups.manifest import Kind, Manifest, owner_of
from control_plane.backups.store import NoSuchBackupError, Vault
from control_plane.db import connect
from control_plane.objects import create_objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Of the service that this environment, or else the one started by `make up`, describes."""

    database_url: str = field(repr=False)
    objects_url: str = field(repr=False)
    key: bytes = field(repr=False)
    programs: Path | None


@asynccontextmanager
async def opened(places: Places) -> AsyncIterator[Vault]:
    """The backups there."""
    objects = create_objects(places.objects_url)
    try:
        yield Vault(objects=objects, key=places.key)
    finally:
        await objects.aclose()


async def chosen(vault: Vault, backup: str, *, kind: Kind = Kind.DATABASE) -> Manifest:
    """That backup, or the newest of its kind. Raises NoSuchBackupError."""
    if backup != "newest":
        return await vault.manifest(backup)
    ids = [name for name in await vault.ids() if name.startswith(f"{kind}-")]
    if not ids:
        others = sorted({str(owner_of(name)) for name in await vault.all_ids()} - {vault.owner, "None"})
        there = f", only of {', '.join(others)}" if others else ""
        raise NoSuchBackupError(f"there is no backup yet made with the key {vault.owner} (VLA_BACKUP_KEY){there}")
    return await vault.manifest(ids[-1])


async def beside(database_url: str, name: str) -> str:
    """The address of a database of that name on the same server; it is made when it is missing."""
    connection = await connect(database_url, timeout_s=STATEMENT_TIMEOUT_S, name="vlaapi-backup")
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    finally:
        await connection.close()
    return make_url(database_url).set(database=name).render_as_string(hide_password=False)
