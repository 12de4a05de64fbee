"""Back to a moment between two writes: a real server archives its log by the real command, is lost, and comes back."""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from control_plane.backups.base_backup import base_for, make_base, recovery_command, remove_base, unpack_base
from control_plane.backups.base_backup_commands import instant_of
from control_plane.backups.dump import Source
from control_plane.backups.manifest import WAL, Kind, new_id
from control_plane.backups.restore import RestoreRefusedError
from control_plane.backups.sealing import DamagedBackupError
from control_plane.backups.store import NoSuchBackupError, Vault
from control_plane.backups.wal import NO_SUCH_FILE, LogFileError, NoSuchLogFileError, fetch, forget_before, push, server_around
from deploy.embedded.binaries import program
from deploy.embedded.postgres import Archive, Cluster, postgres
from tests.conftest import ENVIRONMENT, ROOT, free_port
from tests.control_plane.backups.conftest import KEY, OWNER
from tests.control_plane.backups.test_store import manifest_of, stream
from tests.control_plane.eventually import eventually
from tests.control_plane.fake_objects import FakeObjects
from tests.control_plane.own_servers import OwnServer

COMMAND = f"{sys.executable} -m control_plane.log_files backup"
FETCH = recovery_command(f"{COMMAND} wal-fetch")
NAME = "000000010000000000000003"


def environment_of(url: str, objects_url: str) -> dict[str, str]:
    """What the commands find in the server's environment."""
    return {
        **ENVIRONMENT,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "VLA_DATABASE_URL": url,
        "VLA_REDIS_URL": "redis://127.0.0.1:1/0",
        "VLA_KEY_PEPPER": "a pepper that only these tests know, of some length",
        "VLA_OBJECT_STORE_URL": objects_url,
        "VLA_BACKUP_KEY": KEY.decode(),
    }


@asynccontextmanager
async def started(cluster: Cluster, objects_url: str) -> AsyncIterator[OwnServer]:
    """That cluster, running; killed at the end."""
    server = OwnServer(postgres(cluster, environment=environment_of(cluster.url(), objects_url)), url=cluster.url())
    try:
        await server.start()
        yield server
    finally:
        server.stop()


async def write(connection: asyncpg.Connection, text: str) -> datetime:
    """One row, and an instant after it that no later row shares."""
    await connection.execute("INSERT INTO moments VALUES ($1)", text)
    await connection.execute("SELECT pg_sleep(0.05)")
    at: datetime = await connection.fetchval("SELECT clock_timestamp()")
    await connection.execute("SELECT pg_sleep(0.05)")
    return at


async def until_archived(cluster: Cluster) -> None:
    """Ends the file that is being written and waits until the store has it."""
    connection = await asyncpg.connect(cluster.url().replace("//vlaapi:", "//postgres:"))
    name = await connection.fetchval("SELECT pg_walfile_name(pg_switch_wal())")

    async def is_there() -> bool:
        return bool(await connection.fetchval("SELECT last_archived_wal >= $1 FROM pg_stat_archiver", name))

    await eventually(is_there, within_s=120, every_s=0.2)
    connection.terminate()


@pytest.mark.timeout(400)
async def test_a_lost_server_comes_back_as_it_was_between_two_writes_and_all_its_lives_archive_into_one_place(
    vault: Vault, objects_url: str, programs: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="vla-moment-", dir="/tmp") as folder:
        cluster = a_cluster(Path(folder) / "postgres")
        async with started(cluster, objects_url):
            connection = await asyncpg.connect(cluster.url())
            await connection.execute("CREATE TABLE moments (what text)")
            await write(connection, "before the base backup")
            source = Source(database_url=cluster.url(), programs=programs)
            base = await make_base(source, vault, user="postgres", password=None)
            moment = await write(connection, "after it")
            await write(connection, "the mistake")
            await until_archived(cluster)
            connection.terminate()

        # A server that is set up anew counts the files of its log from the beginning, as the first one did.
        anew = a_cluster(Path(folder) / "anew")
        async with started(anew, objects_url):
            await until_archived(anew)
        folders = {stored.key.removeprefix(WAL).split("/")[0] for stored in await vault.objects.find(WAL)}
        assert folders == {server_around(one.data / "pg_wal" / NAME) for one in (cluster, anew)}

        back = replace(cluster, data=Path(folder) / "back", port=free_port())
        await unpack_base(base, vault, into=back.data, fetch_command=FETCH, until=moment)
        with pytest.raises(RestoreRefusedError, match="is not empty"):
            await unpack_base(base, vault, into=back.data, fetch_command=FETCH, until=moment)
        async with started(back, objects_url):
            assert await moments(back) == ["before the base backup", "after it"]
            connection = await asyncpg.connect(back.url())
            await write(connection, "life goes on")
            connection.terminate()
            await until_archived(back)
        folder_of_both = await vault.objects.find(f"{WAL}{server_around(cluster.data / 'pg_wal' / NAME)}/")
        assert {stored.key.split("/")[-1][:8] for stored in folder_of_both} == {"00000001", "00000002"}  # time lines


def a_cluster(data: Path) -> Cluster:
    """One that archives by the real command."""
    return Cluster(
        programs=program("postgres", override=None, setting="VLA_POSTGRES_BIN"),
        data=data,
        sockets=data.parent,
        port=free_port(),
        password=secrets.token_hex(16),
        is_durable=False,
        archive=Archive(command=f"{COMMAND} wal-push %p", every_s=60),
    )


async def moments(cluster: Cluster) -> list[str]:
    """What a server that has recovered holds."""
    connection = await asyncpg.connect(cluster.url())
    try:
        return [row["what"] for row in await connection.fetch("SELECT what FROM moments")]
    finally:
        await connection.close()


@pytest.fixture
def small(fake: FakeObjects) -> Vault:
    """Over a store in memory."""
    return Vault(objects=fake, key=KEY)


def a_pg_wal(root: Path, server: int) -> Path:
    """The pg_wal of a server of that name."""
    (root / "global").mkdir(parents=True)
    (root / "pg_wal").mkdir()
    (root / "global" / "pg_control").write_bytes(server.to_bytes(8, sys.byteorder) + b"and more")
    return root / "pg_wal"


@pytest.fixture
def pg_wal(tmp_path: Path) -> Path:
    """Of the server 7."""
    return a_pg_wal(tmp_path / "seven", 7)


async def test_a_file_of_the_log_comes_back_as_it_went_and_is_never_replaced(
    small: Vault, fake: FakeObjects, pg_wal: Path
) -> None:
    path = pg_wal / NAME
    path.write_bytes(b"log" * 1000)
    await push(small, path)
    await push(small, path)  # PostgreSQL asks again after a crash
    await fetch(small, NAME, pg_wal / "RECOVERYXLOG")
    assert (pg_wal / "RECOVERYXLOG").read_bytes() == path.read_bytes()
    assert b"loglog" not in fake.kept[f"{WAL}7/{NAME}"]
    path.write_bytes(b"gol" * 1000)
    with pytest.raises(LogFileError, match="another file of that name"):
        await push(small, path)


async def test_another_servers_file_of_the_same_name_is_kept_beside_it_and_never_given(
    small: Vault, pg_wal: Path, tmp_path: Path
) -> None:
    other = a_pg_wal(tmp_path / "eight", 8)
    for folder, data in ((pg_wal, b"of seven"), (other, b"of eight")):
        (folder / NAME).write_bytes(data)
        await push(small, folder / NAME)
    for folder, data in ((pg_wal, b"of seven"), (other, b"of eight")):
        await fetch(small, NAME, folder / "RECOVERYXLOG")
        assert (folder / "RECOVERYXLOG").read_bytes() == data
    with pytest.raises(NoSuchLogFileError):
        await fetch(small, NAME, a_pg_wal(tmp_path / "nine", 9) / "RECOVERYXLOG")
    with pytest.raises(LogFileError, match="is not in the data folder of a PostgreSQL"):
        await fetch(small, NAME, tmp_path / "elsewhere" / "pg_wal" / "RECOVERYXLOG")


async def test_what_is_not_there_or_not_itself_is_told_apart(small: Vault, fake: FakeObjects, pg_wal: Path) -> None:
    with pytest.raises(NoSuchLogFileError):
        await fetch(small, NAME, pg_wal / "RECOVERYXLOG")
    for name in ("../etc/passwd", "pg_hba.conf", NAME.lower().replace("0", "g")):
        with pytest.raises(LogFileError, match="is not the name"):
            await fetch(small, name, pg_wal / "RECOVERYXLOG")
    (pg_wal / NAME).write_bytes(b"log")
    await push(small, pg_wal / NAME)
    other = NAME.replace("3", "4")
    fake.kept[f"{WAL}7/{other}"] = fake.kept[f"{WAL}7/{NAME}"]
    with pytest.raises(DamagedBackupError):
        await fetch(small, other, pg_wal / "RECOVERYXLOG")
    assert not (pg_wal / "RECOVERYXLOG").exists()


async def test_a_store_that_is_still_starting_is_waited_for(small: Vault, fake: FakeObjects, pg_wal: Path) -> None:
    (pg_wal / NAME).write_bytes(b"log")
    await push(small, pg_wal / NAME)
    asked: list[str] = []
    fake.fails = lambda verb, _key: len(asked) < 2 and not asked.append(verb)  # type: ignore[func-returns-value]  # counts
    await fetch(small, NAME, pg_wal / "RECOVERYXLOG")
    assert (asked, (pg_wal / "RECOVERYXLOG").read_bytes()) == (["get", "get"], b"log")


async def test_only_what_no_base_backup_needs_is_forgotten(small: Vault, fake: FakeObjects) -> None:
    names = [f"00000001{n:016X}" for n in range(5)] + ["00000002.history", f"00000002{1:016X}"]
    fake.kept = {f"{WAL}{server}/{name}": b"x" for name in names for server in (7, 8)}
    gone = await forget_before(small, "7", f"00000001{3:016X}")
    assert set(gone) == {names[0], names[1], names[2], names[6]}
    assert await forget_before(small, "7", f"00000001{3:016X}") == []
    assert len([key for key in fake.kept if key.startswith(f"{WAL}8/")]) == len(names)


async def a_base(vault: Vault, ended_at: datetime, *, server: str = "7", wal_file: str = NAME) -> str:
    """A base backup that took a minute."""
    backup_id = new_id(Kind.BASE, ended_at - timedelta(minutes=1), owner=OWNER)
    manifest = manifest_of(backup_id, await vault.write(backup_id, stream(b"tar")))
    facts = msgspec.structs.replace(manifest.facts, server=server, wal_file=wal_file)
    await vault.commit(msgspec.structs.replace(manifest, kind=Kind.BASE, ended_at=ended_at, facts=facts))
    return backup_id


async def test_for_a_moment_the_newest_base_that_had_ended_by_then_is_taken(small: Vault) -> None:
    now = datetime.now(UTC)
    with pytest.raises(NoSuchBackupError, match="no backup yet"):
        await base_for(small, "newest", None)
    older, newer = [await a_base(small, now - timedelta(hours=hours)) for hours in (20, 10)]
    assert (await base_for(small, "newest", None)).id == newer
    assert (await base_for(small, "newest", now - timedelta(hours=10))).id == newer
    while_newer_was_made = now - timedelta(hours=10, seconds=30)
    assert (await base_for(small, "newest", while_newer_was_made)).id == older
    assert (await base_for(small, older, while_newer_was_made)).id == older
    with pytest.raises(RestoreRefusedError, match=f"{newer} ended at .*, after .*: an older one"):
        await base_for(small, newer, while_newer_was_made)
    with pytest.raises(NoSuchBackupError, match="no base backup had ended by"):
        await base_for(small, "newest", now - timedelta(hours=21))
    with pytest.raises(RestoreRefusedError, match="has not come yet"):
        await base_for(small, "newest", now + timedelta(hours=1))


async def test_where_several_servers_left_bases_the_newest_is_not_guessed_and_removing_one_takes_its_log(
    small: Vault, fake: FakeObjects
) -> None:
    """A new machine's own first base backup is newer than all of the lost one's, and empty."""
    now = datetime.now(UTC)
    lost = [await a_base(small, now - timedelta(hours=hours), wal_file=f"00000001{30 - hours:016X}") for hours in (20, 10)]
    other = await a_base(small, now - timedelta(hours=1), server="8")
    fake.kept |= {f"{WAL}{server}/00000001{n:016X}": b"x" for n in range(9, 22) for server in (7, 8)}
    with pytest.raises(RestoreRefusedError, match=f"of several servers; name one, such as {lost[1]} or {other}"):
        await base_for(small, "newest", None)
    assert (await base_for(small, lost[1], None)).id == lost[1]
    await remove_base(small, await small.manifest(lost[0]))
    assert sorted(key for key in fake.kept if key.startswith(f"{WAL}7/"))[0] == f"{WAL}7/00000001{20:016X}"
    await remove_base(small, await small.manifest(lost[1]))
    assert {key.split("/")[2] for key in fake.kept if key.startswith(WAL)} == {"8"}
    assert (await base_for(small, "newest", None)).id == other


def test_an_instant_without_a_time_zone_is_not_taken_for_one() -> None:
    assert instant_of("2026-11-27 14:30:00+00") - instant_of("2026-11-27T15:29:00+01:00") == timedelta(minutes=1)
    with pytest.raises(ValueError, match="time zone"):
        instant_of("2026-11-27 14:30:00")
    assert instant_of("2026-11-27T14:30Z").tzinfo is not None


@pytest.mark.parametrize(("ended", "told"), [(0, 0), (NO_SUCH_FILE, 1), (1, 200), (2, 200), (137, 200)])
def test_only_a_file_that_is_certainly_not_there_ends_a_recovery(ended: int, told: int) -> None:
    """A store that is away, a wrong key, a broken installation: the server must not go live without the rest of its log."""
    command = recovery_command(f"sh -c 'exit {ended}'").replace("%f", NAME).replace("%p", "pg_wal/RECOVERYXLOG")
    assert subprocess.run(["sh", "-c", command], check=False).returncode == told


def test_what_postgresql_starts_for_every_file_loads_little(pg_wal: Path) -> None:
    """All commands together take a second or two of CPU, for each of thousands of files in a recovery."""
    loaded = "import sys, control_plane.log_files; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert not {"sqlalchemy", "typer", "asyncpg", "control_plane.cli", "fastapi"} & set(done.stdout.split())

    push = [sys.executable, "-m", "vlaapi", "backup", "wal-push", str(pg_wal / NAME)]
    there = environment_of("postgresql://nobody@127.0.0.1:1/none", "https://a:b@127.0.0.1:1/none")
    del there["VLA_BACKUP_KEY"]
    refused = subprocess.run(push, cwd=ROOT, env=there, stderr=subprocess.PIPE, text=True, check=False)
    assert (refused.returncode, refused.stderr) == (2, "vlaapi: VLA_BACKUP_KEY: is not set, and backups need it\n")
