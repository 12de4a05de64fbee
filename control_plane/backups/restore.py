"""Brings a backup back into an empty database, all or nothing, and refuses any other.

One transaction: whatever ends it early (a damaged part, a full disk, a kill) leaves the database as empty as it was. Everything
belongs to who restores. Grants come back where their role is; else `vlaapi dashboards login` makes the role and grants again.
"""

from contextlib import aclosing
from pathlib import Path

from control_plane.backups.dump import STATEMENT_TIMEOUT_S
from control_plane.backups.facts import tables_in
from control_plane.backups.manifest import Kind, Manifest
from control_plane.backups.programs import feed, place_of_database, program
from control_plane.backups.store import Vault
from control_plane.db import connect


class RestoreRefusedError(Exception):
    """Nothing was changed; the text says what is in the way."""


async def restore(manifest: Manifest, vault: Vault, *, into: str, programs: Path | None) -> None:
    """Raises RestoreRefusedError, DamagedBackupError, ProgramError, DatabaseAwayError, ObjectStoreAwayError."""
    if manifest.kind is not Kind.DATABASE:
        raise RestoreRefusedError(f"{manifest.id} is of a whole server: `vlaapi backup restore-base` unpacks it into a folder")
    has_reader = await _looked_at(into)
    place = place_of_database(into)
    argv = (program(programs, "pg_restore"), "--single-transaction", "--exit-on-error", "--no-owner")
    grants = () if has_reader else ("--no-privileges",)
    async with aclosing(vault.read(manifest)) as pieces:
        await feed((*argv, *grants, f"--dbname={place['PGDATABASE']}"), place, pieces)


async def _looked_at(database_url: str) -> bool:
    """Refuses any but an empty database. Whether the one role that the schema grants anything to is there."""
    connection = await connect(database_url, timeout_s=STATEMENT_TIMEOUT_S, name="vlaapi-restore")
    try:
        found = await tables_in(connection)
        has_reader = bool(await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = 'vlaapi_reader'"))
    finally:
        await connection.close()
    if found:
        raise RestoreRefusedError(
            f"the database {place_of_database(database_url)['PGDATABASE']} is not empty ({found} tables, views and sequences): "
            "a backup goes into an empty one; --database NAME makes one beside it"
        )
    return has_reader
