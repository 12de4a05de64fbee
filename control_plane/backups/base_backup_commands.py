"""`vlaapi backup base | restore-base | wal-push | wal-fetch`: for a PostgreSQL that one runs oneself. Words and output only."""

import os
import shlex
import shutil
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer

from control_plane.backups.base_backup import base_for, make_base, recovery_command, unpack_base
from control_plane.backups.dump import Source
from control_plane.backups.manifest import Manifest
from control_plane.backups.places import Places
from control_plane.backups.store import Vault
from control_plane.backups.wal import NO_SUCH_FILE, NoSuchLogFileError, fetch, push

_T = TypeVar("_T")


class Done(Protocol):
    """Runs something with the backups and turns every refusal into one line and an exit status."""

    def __call__(self, there: Places, work: Callable[[Vault], Awaitable[_T]]) -> _T:
        """What came of it."""


def add_to(commands: typer.Typer, places: Callable[[], Places], done: Done) -> None:
    """Adds them."""
    _add_base(commands, places, done)
    _add_log(commands, places, done)


def _add_base(commands: typer.Typer, places: Callable[[], Places], done: Done) -> None:
    @commands.command("base")
    def base() -> None:
        """A base backup of the whole server, as PGUSER (else postgres) with PGPASSWORD (else the service's own password)."""
        there = places()
        source = Source(database_url=there.database_url, programs=there.programs)
        user, password = os.environ.get("PGUSER", "postgres"), os.environ.get("PGPASSWORD")
        made = done(there, lambda vault: make_base(source, vault, user=user, password=password))
        typer.echo(f"{made.id}: {made.stored_bytes / 1e6:.1f} MB stored")

    @commands.command("restore-base")
    def restore_base(
        backup: Annotated[str, typer.Argument(help="A base backup as `vlaapi backup list` names it, or `newest`.")],
        into: Annotated[Path, typer.Option("--into", help="An empty folder: the data folder of the server to be.")],
        until: Annotated[
            str | None, typer.Option("--until", help="Instant with a time zone; else to the end of the log.")
        ] = None,
    ) -> None:
        """Unpack a base backup; the server that is started on the folder recovers to that instant by itself."""
        at = None if until is None else _instant(until)
        there = places()

        async def unpack(vault: Vault) -> Manifest:
            manifest = await base_for(vault, backup, at)
            command = recovery_command(f"{_ourselves()} backup wal-fetch")
            await unpack_base(manifest, vault, into=into, fetch_command=command, until=at)
            return manifest

        typer.echo(f"{done(there, unpack).id} is in {into}; start a server on it, with this environment")


def _add_log(commands: typer.Typer, places: Callable[[], Places], done: Done) -> None:
    @commands.command("wal-push")
    def wal_push(path: Annotated[Path, typer.Argument(help="%p of archive_command.")]) -> None:
        """PostgreSQL's archive_command: keep one file of the write-ahead log."""
        done(places(), lambda vault: push(vault, path))

    @commands.command("wal-fetch")
    def wal_fetch(
        name: Annotated[str, typer.Argument(help="%f of restore_command.")],
        path: Annotated[Path, typer.Argument(help="%p of restore_command.")],
    ) -> None:
        """PostgreSQL's restore_command: give one file of the log back. Ends with 3 when there is none."""
        try:
            done(places(), lambda vault: fetch(vault, name, path))
        except NoSuchLogFileError as error:
            typer.echo(f"vlaapi: {error}", err=True)
            raise typer.Exit(NO_SUCH_FILE) from None


def instant_of(text: str) -> datetime:
    """Raises ValueError for what is no instant, or none that everybody reads alike."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("needs a time zone, as in 2026-11-27T14:30:00Z")
    return at


def _instant(text: str) -> datetime:
    try:
        return instant_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--until") from None


def _ourselves() -> str:
    """How PostgreSQL starts us again."""
    found = shutil.which("vlaapi", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    return f"{shlex.quote(sys.executable)} -m control_plane.log_files" if found is None else shlex.quote(found)
