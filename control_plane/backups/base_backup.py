"""Base backups: the whole server as a tar, from which its write-ahead log leads to any later moment.

For a PostgreSQL that one runs oneself. Made by a role that may replicate; unpacked into an empty folder, with a note for the
server that it is to recover, from where, and up to when.
"""

import asyncio
import contextlib
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from control_plane.backups.dump import Source, only_one
from control_plane.backups.facts import read_place
from control_plane.backups.manifest import Kind, Manifest, begin
from control_plane.backups.places import chosen
from control_plane.backups.programs import feed, pieces_of, place_of_database, program
from control_plane.backups.restore import RestoreRefusedError
from control_plane.backups.sealing import DamagedBackupError
from control_plane.backups.store import NoSuchBackupError, Vault
from control_plane.backups.wal import NO_SUCH_FILE, forget_before

KEPT = 2  # of this server, and its log from the older one's beginning; another life's stay until somebody removes them


def recovery_command(fetch: str) -> str:
    """A restore_command. PostgreSQL takes most failures for the end of the log and would go live without the rest: only a certain
    "no such file" may be that, and anything else has to stop the recovery, for which the status must be over 125."""
    return f'{fetch} "%f" "%p"; s=$?; [ $s = 0 ] && exit 0; [ $s = {NO_SUCH_FILE} ] && exit 1; exit 200'


async def make_base(source: Source, vault: Vault, *, user: str, password: str | None) -> Manifest:
    """The backup, complete; older ones and their log are removed. Raises what `dump` raises."""
    place = place_of_database(source.database_url) | {"PGUSER": user}
    place |= {} if password is None else {"PGPASSWORD": password}
    argv = (program(source.programs, "pg_basebackup"), "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast")
    async with only_one(source.database_url) as connection:
        await vault.sweep()
        begun, facts = begin(Kind.BASE, owner=vault.owner), await read_place(connection)
        async with aclosing(pieces_of((*argv, "--no-password", f"--label={begun.id}"), place)) as pieces:
            written = await vault.write(begun.id, pieces)
        manifest = await vault.finish(begun, facts, written)
        await _thin_out(vault, facts.server)
    return manifest


async def base_for(vault: Vault, backup: str, until: datetime | None) -> Manifest:
    """That base backup, or the newest from which the log leads to `until`. Raises NoSuchBackupError, RestoreRefusedError."""
    if until is not None and until > datetime.now(UTC):
        raise RestoreRefusedError(f"{_told(until)} has not come yet")
    if backup != "newest":
        manifest = await chosen(vault, backup, kind=Kind.BASE)
        if until is not None and manifest.ended_at > until:
            ended = _told(manifest.ended_at)
            raise RestoreRefusedError(f"{manifest.id} ended at {ended}, after {_told(until)}: an older one is needed")
        return manifest
    bases = await _bases(vault) or [await chosen(vault, "newest", kind=Kind.BASE)]  # which says why there is none
    if len(newest := {manifest.facts.server: manifest.id for manifest in bases}) > 1:
        raise RestoreRefusedError(f"there are base backups of several servers; name one, such as {' or '.join(newest.values())}")
    for manifest in reversed(bases):
        if until is None or manifest.ended_at <= until:
            return manifest
    raise NoSuchBackupError(f"no base backup had ended by {_told(until)}; `vlaapi backup list` shows which there are")


async def unpack_base(manifest: Manifest, vault: Vault, *, into: Path, fetch_command: str, until: datetime | None) -> None:
    """Raises RestoreRefusedError, DamagedBackupError, ProgramError. What was begun and not finished must be removed by hand."""
    if manifest.kind is not Kind.BASE:
        raise RestoreRefusedError(f"{manifest.id} is a dump of one database: `vlaapi backup restore` brings it back")
    if not manifest.facts.server:
        raise RestoreRefusedError(f"{manifest.id} is from before logs were kept by server: none would be found for it")
    await asyncio.to_thread(_make_empty, into)
    async with aclosing(vault.read(manifest)) as pieces:
        await feed(("tar", "--extract", "--file=-", "--no-same-owner", "--same-permissions", f"--directory={into}"), {}, pieces)
    await asyncio.to_thread(_tell_server, into, manifest.id, fetch_command, until)


def _make_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise RestoreRefusedError(f"{folder} is not empty")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _tell_server(into: Path, backup_id: str, fetch_command: str, until: datetime | None) -> None:
    settings = {"restore_command": fetch_command, "recovery_target_action": "promote"}
    # Said also when there is none: the base may hold the target of an earlier recovery.
    settings["recovery_target_time"] = "" if until is None else until.astimezone(UTC).isoformat(sep=" ")
    lines = "".join(f"{name} = '{_quoted(value)}'\n" for name, value in settings.items())
    with (into / "postgresql.auto.conf").open("a") as file:
        file.write(f"# {backup_id}, unpacked by vlaapi backup restore-base\n{lines}")
    (into / "recovery.signal").touch(mode=0o600)  # last: a server must not start from half a folder as if it were whole


async def remove_base(vault: Vault, manifest: Manifest) -> None:
    """And the files of its server's log that only it needed: all of them, where it was the last."""
    await vault.remove(manifest.id)
    await _forget_log(vault, manifest.facts.server)


async def _bases(vault: Vault) -> list[Manifest]:
    """Those that can be read, oldest first."""
    found = list[Manifest]()
    for name in await vault.ids():
        if name.startswith(f"{Kind.BASE}-"):
            with contextlib.suppress(DamagedBackupError):  # a name from before names held an owner may be another's
                found.append(await vault.manifest(name))
    return found


async def _thin_out(vault: Vault, server: str) -> None:
    for old in [manifest for manifest in await _bases(vault) if manifest.facts.server == server][:-KEPT]:
        await vault.remove(old.id)
    await _forget_log(vault, server)


async def _forget_log(vault: Vault, server: str) -> None:
    left = [manifest.facts.wal_file for manifest in await _bases(vault) if manifest.facts.server == server]
    await forget_before(vault, server, left[0] if left else None)


def _told(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _quoted(value: str) -> str:
    return value.replace("'", "''")
