"""Brings a backup back into an empty database, all or nothing, and refuses any other.

One transaction: whatever ends it early (a damaged part, a full disk, a kill) leaves the database as empty as it was. Owners and
grants are not brought back, because the roles may not be there; `vlaapi migrate` grants again what the service itself grants.
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
    await _refuse_unless_empty(into)
    place = place_of_database(into)
    argv = (program(programs, "pg_restore"), "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
    async with aclosing(vault.read(manifest)) as pieces:
        await feed((*argv, f"--dbname={place['PGDATABASE']}"), place, pieces)


async def _refuse_unless_empty(database_url: str) -> None:
    connection = await connect(database_url, timeout_s=STATEMENT_TIMEOUT_S, name="vlaapi-restore")
    try:
        found = await tables_in(connection)
    finally:
        await connection.close()
    if found:
        raise RestoreRefusedError(
            f"the database {place_of_database(database_url)['PGDATABASE']} is not empty ({found} tables, views and sequences): "
            "a backup goes into an empty one; --database NAME makes one beside it"
        )
