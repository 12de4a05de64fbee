"""Back to a moment between two writes: a real server archives its log by the real command, is lost, and comes back."""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from control_plane.backups.base_backup import NO_SUCH_FILE, make_base, recovery_command, unpack_base
from control_plane.backups.base_backup_commands import instant_of
from control_plane.backups.dump import Source
from control_plane.backups.manifest import WAL
from control_plane.backups.restore import RestoreRefusedError
from control_plane.backups.sealing import DamagedBackupError
from control_plane.backups.store import Vault
from control_plane.backups.wal import LogFileError, NoSuchLogFileError, fetch, forget_before, push
from deploy.embedded.binaries import program
from deploy.embedded.postgres import Archive, Cluster, postgres
from tests.conftest import ENVIRONMENT, ROOT, free_port
from tests.control_plane.backups.conftest import KEY
from tests.control_plane.eventually import eventually
from tests.control_plane.fake_objects import FakeObjects
from tests.control_plane.own_servers import OwnServer

COMMAND = f"{sys.executable} -m control_plane.cli backup"
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
async def test_a_lost_server_comes_back_as_it_was_between_two_writes(vault: Vault, objects_url: str, programs: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="vla-moment-", dir="/tmp") as folder:
        cluster = Cluster(
            programs=program("postgres", override=None, setting="VLA_POSTGRES_BIN"),
            data=Path(folder) / "postgres",
            sockets=Path(folder),
            port=free_port(),
            password=secrets.token_hex(16),
            is_durable=False,
            archive=Archive(command=f"{COMMAND} wal-push %p", every_s=60),
        )
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

        back = replace(cluster, data=Path(folder) / "back", port=free_port(), archive=None)
        command = recovery_command(f"{COMMAND} wal-fetch")
        await unpack_base(base, vault, into=back.data, fetch_command=command, until=moment)
        with pytest.raises(RestoreRefusedError, match="is not empty"):
            await unpack_base(base, vault, into=back.data, fetch_command=command, until=moment)
        async with started(back, objects_url):
            connection = await asyncpg.connect(back.url())

            async def is_promoted() -> bool:
                return not await connection.fetchval("SELECT pg_is_in_recovery()")

            await eventually(is_promoted, within_s=120, every_s=0.2)
            rows = [row["what"] for row in await connection.fetch("SELECT what FROM moments")]
            await connection.execute("INSERT INTO moments VALUES ('life goes on')")
            connection.terminate()
        assert rows == ["before the base backup", "after it"]


@pytest.fixture
def small(fake: FakeObjects) -> Vault:
    """Over a store in memory."""
    return Vault(objects=fake, key=KEY)


async def test_a_file_of_the_log_comes_back_as_it_went_and_is_never_replaced(
    small: Vault, fake: FakeObjects, tmp_path: Path
) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"log" * 1000)
    await push(small, path)
    await push(small, path)  # PostgreSQL asks again after a crash
    await fetch(small, NAME, tmp_path / "RECOVERYXLOG")
    assert (tmp_path / "RECOVERYXLOG").read_bytes() == path.read_bytes()
    assert b"loglog" not in fake.kept[f"{WAL}{NAME}"]
    path.write_bytes(b"gol" * 1000)
    with pytest.raises(LogFileError, match="another file of that name"):
        await push(small, path)


async def test_what_is_not_there_or_not_itself_is_told_apart(small: Vault, fake: FakeObjects, tmp_path: Path) -> None:
    with pytest.raises(NoSuchLogFileError):
        await fetch(small, NAME, tmp_path / "RECOVERYXLOG")
    for name in ("../etc/passwd", "pg_hba.conf", NAME.lower().replace("0", "g")):
        with pytest.raises(LogFileError, match="is not the name"):
            await fetch(small, name, tmp_path / "RECOVERYXLOG")
    (tmp_path / NAME).write_bytes(b"log")
    await push(small, tmp_path / NAME)
    other = NAME.replace("3", "4")
    fake.kept[f"{WAL}{other}"] = fake.kept[f"{WAL}{NAME}"]
    with pytest.raises(DamagedBackupError):
        await fetch(small, other, tmp_path / "RECOVERYXLOG")
    assert not (tmp_path / "RECOVERYXLOG").exists()


async def test_a_store_that_is_still_starting_is_waited_for(small: Vault, fake: FakeObjects, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"log")
    await push(small, tmp_path / NAME)
    asked: list[str] = []
    fake.fails = lambda verb, _key: len(asked) < 2 and not asked.append(verb)  # type: ignore[func-returns-value]  # counts
    await fetch(small, NAME, tmp_path / "RECOVERYXLOG")
    assert (asked, (tmp_path / "RECOVERYXLOG").read_bytes()) == (["get", "get"], b"log")


async def test_only_what_no_base_backup_needs_is_forgotten(small: Vault, fake: FakeObjects) -> None:
    names = [f"00000001{n:016X}" for n in range(5)] + ["00000002.history", f"00000002{1:016X}"]
    fake.kept = {f"{WAL}{name}": b"x" for name in names}
    gone = await forget_before(small, f"00000001{3:016X}")
    assert set(gone) == {names[0], names[1], names[2], names[6]}
    assert await forget_before(small, f"00000001{3:016X}") == []


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
