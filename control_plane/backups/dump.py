"""Makes one backup: the database is dumped from one snapshot, sealed on the way, and the manifest written last.

One backup at a time, which an advisory lock of the database holds; so what lies in the store without a manifest when a run begins
was cut short, and is removed. Nothing is written to this machine's disk, and memory does not grow with the database.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from control_plane.backups.facts import read_facts
from control_plane.backups.manifest import Kind, Manifest, begin
from control_plane.backups.programs import pieces_of, place_of_database, program
from control_plane.backups.store import Vault
from control_plane.db import connect

STATEMENT_TIMEOUT_S = 6 * 3600.0
_LOCK_ID = 0x766C615F62636B70  # "vla_bckp"


class BackupRunningError(Exception):
    """Another backup of this database is being made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is backed up, and with which programs."""

    database_url: str = field(repr=False)
    programs: Path | None


async def dump(source: Source, vault: Vault) -> Manifest:
    """The backup, complete. Raises BackupRunningError, ProgramError, DatabaseAwayError, ObjectStoreAwayError."""
    async with only_one(source.database_url) as connection:
        await vault.sweep()
        begun = begin(Kind.DATABASE, owner=vault.owner)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            facts = await read_facts(connection)
            # The format is compressed by pg_dump itself: sealed bytes could not be. A little, because it takes our own CPU.
            argv = (program(source.programs, "pg_dump"), "--format=custom", "--compress=3", f"--snapshot={snapshot}")
            async with aclosing(pieces_of(argv, place_of_database(source.database_url))) as pieces:
                written = await vault.write(begun.id, pieces)
        return await vault.finish(begun, facts, written)


@asynccontextmanager
async def only_one(database_url: str) -> AsyncIterator["asyncpg.Connection"]:
    """A connection that holds the right to write backups. Raises BackupRunningError."""
    connection = await connect(database_url, timeout_s=STATEMENT_TIMEOUT_S, name="vlaapi-backup")
    try:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_ID):
            raise BackupRunningError("another backup of this database is being made")
        yield connection
    finally:
        await connection.close()
