"""`vlaapi backup create | list | verify | restore`: words and output only.

`verify` restores into a scratch server of its own, or into an empty database beside the service's. No address is ever taken from
the command line: it would hold a password.
"""

import asyncio
import contextlib
import re
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar, cast

import typer
from rich.console import Console
from rich.table import Table

from control_plane.backups.base_backup import remove_base
from control_plane.backups.base_backup_commands import add_to as add_base_commands
from control_plane.backups.dump import BackupRunningError, Source, dump
from control_plane.backups.manifest import Kind, Manifest, began_at
from control_plane.backups.places import Places, beside, chosen, opened
from control_plane.backups.programs import ProgramError
from control_plane.backups.prove import Finding, prove
from control_plane.backups.restore import RestoreRefusedError, restore
from control_plane.backups.scratch import scratch_server
from control_plane.backups.sealing import DamagedBackupError
from control_plane.backups.store import NoSuchBackupError, Vault
from control_plane.backups.wal import LogFileError, NoSuchLogFileError
from control_plane.db import database_errors
from control_plane.objects import ObjectStoreAwayError

_T = TypeVar("_T")

REFUSALS = (BackupRunningError, ProgramError, RestoreRefusedError, DamagedBackupError, NoSuchBackupError, LogFileError)
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

BackupId = Annotated[str, typer.Argument(help="A backup as `vlaapi backup list` names it, or `newest`.")]
Database = Annotated[
    str | None, typer.Option("--database", help="Use a database of that name on the same server; made when it is missing.")
]


def create_commands(places: Callable[[], Places]) -> typer.Typer:
    """The sub-commands; settings are read only when one of them runs."""
    commands = typer.Typer(no_args_is_help=True, help="Back the database up, and prove that it comes back.")

    @commands.command("create")
    def create() -> None:
        """Make a backup now."""
        there = places()
        made = _done(there, lambda vault: dump(Source(database_url=there.database_url, programs=there.programs), vault))
        typer.echo(f"{made.id}: {sum(made.facts.rows.values())} rows, {_size(made.stored_bytes)} stored")

    @commands.command("list")
    def list_() -> None:
        """Every complete backup, oldest first."""
        backups = _done(places(), _described)
        Console(width=130).print(_listing(backups) if backups else "there are no backups")

    @commands.command("verify")
    def verify(backup: BackupId = "newest", database: Database = None) -> None:
        """Restore a backup into a scratch server and look at everything. Ends with 1 if anything differs."""
        there = places()
        findings = _done(there, lambda vault: _verified(there, vault, backup, database))
        Console(width=130).print(_table(findings))
        wrong = [finding for finding in findings if not finding.is_right]
        typer.echo(f"{len(findings)} things looked at, {len(wrong)} wrong")
        raise typer.Exit(1 if wrong else 0)

    @commands.command("restore")
    def restore_(backup: BackupId, database: Database = None) -> None:
        """Bring a backup back into an empty database: all or nothing."""
        there = places()
        restored = _done(there, lambda vault: _restored(there, vault, backup, database))
        typer.echo(f"{restored.id} is restored: {sum(restored.facts.rows.values())} rows; `vlaapi migrate` comes next")

    @commands.command("remove")
    def remove(backup: Annotated[str, typer.Argument(help="A backup as `vlaapi backup list` names it.")]) -> None:
        """Remove one for good; of a base backup also the log that only it needed. Backups that grow old go by themselves."""
        typer.echo(f"{_done(places(), lambda vault: _removed(vault, backup))} is removed")

    add_base_commands(commands, places, _done)
    return commands


async def _verified(there: Places, vault: Vault, backup: str, database: str | None) -> Sequence[Finding]:
    manifest = await chosen(vault, backup)
    if database is not None:
        url = await beside(there.database_url, _checked(database))
        await restore(manifest, vault, into=url, programs=there.programs)
        return await prove(manifest, url)
    async with scratch_server(there.programs) as url:
        await restore(manifest, vault, into=url, programs=there.programs)
        return await prove(manifest, url)


async def _restored(there: Places, vault: Vault, backup: str, database: str | None) -> Manifest:
    manifest = await chosen(vault, backup)
    url = there.database_url if database is None else await beside(there.database_url, _checked(database))
    await restore(manifest, vault, into=url, programs=there.programs)
    return manifest


async def _removed(vault: Vault, backup: str) -> str:
    manifest = await vault.manifest(backup)
    await (remove_base(vault, manifest) if manifest.kind is Kind.BASE else vault.remove(backup))
    return backup


async def _described(vault: Vault) -> list[Manifest | str]:
    """Each backup's manifest, or what is wrong with it."""
    found: list[Manifest | str] = []
    for name in await vault.all_ids():
        try:
            found.append(await vault.manifest(name))
        except DamagedBackupError as error:
            found.append(str(error))
    return found


def _done(there: Places, work: Callable[[Vault], Awaitable[_T]]) -> _T:
    """Raises what the command line knows; everything of this room ends in one line and exit status 1.

    SIGTERM is no sudden death: what was started is ended, and a scratch server's copy of everything is removed.
    """

    async def run() -> _T:
        ourselves = cast("asyncio.Task[_T]", asyncio.current_task())
        with contextlib.suppress(RuntimeError):  # only the main thread of a process is told of signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ourselves.cancel)
        async with opened(there) as vault:
            with database_errors():
                return await work(vault)

    try:
        return asyncio.run(run())
    except NoSuchLogFileError:
        raise
    except asyncio.CancelledError:
        typer.echo("vlaapi: was ended by SIGTERM before it was done", err=True)
        raise typer.Exit(128 + signal.SIGTERM) from None
    except REFUSALS as error:
        fault = str(error)
    except ObjectStoreAwayError as error:
        fault = f"the object store cannot be reached or does not take it ({error})"
    typer.echo(f"vlaapi: {fault}", err=True)
    raise typer.Exit(1)


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise typer.BadParameter("a name of lower-case letters, digits and _", param_hint="--database")
    return name


def _listing(backups: Sequence[Manifest | str]) -> Table:
    table = Table("backup", "age", "stored", "rows", "schema or server", "log position", box=None, pad_edge=False)
    for one in backups:
        if isinstance(one, str):
            table.add_row(one)
            continue
        rows = str(sum(one.facts.rows.values())) if one.kind is Kind.DATABASE else "-"
        of = one.facts.schema_revision or f"server {one.facts.server}"
        cells = (one.id, _age(one.id), _size(one.stored_bytes), rows, of, one.facts.wal_position)
        table.add_row(*cells)
    return table


def _table(findings: Sequence[Finding]) -> Table:
    table = Table("", "what", "in the backup", "restored", box=None, pad_edge=False)
    for one in findings:
        table.add_row("ok" if one.is_right else "BAD", one.what, one.expected, one.found)
    return table


def _age(backup_id: str) -> str:
    begun = began_at(backup_id)
    minutes = 0 if begun is None else int((datetime.now(UTC) - begun).total_seconds() // 60)
    return f"{minutes // 1440} d {minutes % 1440 // 60:02} h {minutes % 60:02} m"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
