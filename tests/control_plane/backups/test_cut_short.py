"""`vlaapi backup …` that is ended half-way, or finds a damaged backup or another release's: one line, and nothing left."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from control_plane.backups.dump import Source, dump
from control_plane.backups.manifest import PARTS, part_key
from control_plane.backups.prove import prove
from control_plane.backups.restore import restore
from control_plane.backups.scratch import _SETTLED_AFTER_S, scratch_server
from control_plane.backups.store import Vault
from control_plane.migrations import upgrade
from tests.conftest import ROOT, outside
from tests.control_plane.backups.test_commands import environment
from tests.control_plane.eventually import eventually
from tests.control_plane.test_cli import Environment, vlaapi

__all__ = ["environment"]

_AS_OLD_AS = "2026_11_27_policies"  # before the views that some truths of billing read


@contextmanager
def begun(environment: Environment, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs."""
    argv = [sys.executable, "-m", "control_plane.cli", "backup", *words]
    process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def scratch_pid(folder: Path) -> int | None:
    """The pid of the scratch server there, once it has one."""
    for file in folder.glob("vla-scratch-*/data/postmaster.pid"):
        words = file.read_text().split()
        return int(words[0]) if words and int(words[0]) > 0 else None  # initdb's own is negative
    return None


async def test_a_backup_that_is_killed_half_way_is_none_and_the_next_one_is_made(
    environment: Environment, source: Source, vault: Vault
) -> None:
    """A lock holds it where it counts rows, in its snapshot and with the right to write."""
    blocker, asking = await asyncpg.connect(source.database_url), await asyncpg.connect(source.database_url)
    at_work = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vlaapi-backup' AND wait_event_type = 'Lock'"
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("LOCK TABLE customer_accounts")

    async def is_at_work() -> bool:
        return bool(await asking.fetchval(at_work))

    with begun(environment, "create") as create:
        await eventually(is_at_work, every_s=0.1)
        create.kill()
    await transaction.rollback()
    await blocker.close()
    await asking.close()
    assert await vault.all_ids() == []
    assert (await dump(source, vault)).facts.rows["inference_logs"] == 60


async def test_a_proof_that_is_ended_leaves_no_copy_and_one_that_was_killed_loses_it_to_the_next(
    environment: Environment, source: Source, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await dump(source, vault)
    environment = {**environment, "TMPDIR": str(tmp_path)}

    def left() -> list[Path]:
        return list(tmp_path.glob("vla-scratch-*"))

    async def has_a_server() -> bool:
        return scratch_pid(tmp_path) is not None

    with begun(environment, "verify") as verify:
        await eventually(has_a_server, every_s=0.05)
        verify.send_signal(signal.SIGTERM)
        _, err = outside(lambda: verify.communicate())
        assert (verify.returncode, err, left()) == (143, "vlaapi: was ended by SIGTERM before it was done\n", [])
    with begun(environment, "verify") as verify:
        await eventually(has_a_server, every_s=0.05)
        server = psutil.Process(scratch_pid(tmp_path))
        verify.kill()
    psutil.wait_procs([server], timeout=100)
    assert (server.is_running(), len(left())) == (False, 1)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere/but/passed/on")
    (killed,) = left()
    now = time.time() + 2 * _SETTLED_AFTER_S
    monkeypatch.setattr("control_plane.backups.scratch.time.time", lambda: now)
    async with scratch_server(source.programs) as url:
        assert killed not in left()
        assert len(left()) == 1  # its own, though it is as old by that clock: it holds the lock
        assert psutil.Process(scratch_pid(tmp_path)).environ()["LD_LIBRARY_PATH"] == "/nowhere/but/passed/on"
        await restore(made, vault, into=url, programs=source.programs)
    assert left() == []


async def test_a_part_that_was_cut_is_one_line(environment: Environment, source: Source, vault: Vault) -> None:
    made = await dump(source, vault)
    whole = await vault.objects.get(part_key(made.id, 0))
    for damage, words in ((whole[:-1], "part 0 is not what was written"), (None, "part 0 is missing")):
        await vault.objects.remove([stored.key for stored in await vault.objects.find(f"{PARTS}{made.id}/")])
        if damage is not None:
            await vault.objects.put(part_key(made.id, 0), damage)
        refused = outside(lambda: vlaapi(environment, "backup", "verify", made.id))
        assert (refused.status, refused.out, refused.err) == (1, "", f"vlaapi: {made.id}: {words}\n")


async def test_a_backup_from_before_an_upgrade_is_counted_as_it_is_and_proven_as_it_would_be_used(
    empty_url: str, vault: Vault, source: Source
) -> None:
    outside(lambda: upgrade(empty_url, _AS_OLD_AS))
    old = await dump(Source(database_url=empty_url, programs=source.programs), vault)
    assert old.facts.schema_revision == _AS_OLD_AS
    async with scratch_server(source.programs) as url:
        await restore(old, vault, into=url, programs=source.programs)
        findings = await prove(old, url)
    assert [finding for finding in findings if not finding.is_right] == []
    assert "truth: ledger_balances" in {finding.what for finding in findings}


async def test_a_backup_of_a_later_release_says_which_release_can_prove_it(empty_url: str, vault: Vault, source: Source) -> None:
    connection = await asyncpg.connect(empty_url)
    await connection.execute("CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('2099_later')")
    later = await dump(Source(database_url=empty_url, programs=source.programs), vault)
    findings = await prove(later, empty_url)
    await connection.close()
    assert [(one.what, one.found) for one in findings if not one.is_right] == [
        (
            "truths of billing",
            "not looked at: this release does not know the schema 2099_later; verify with the release that made it",
        )
    ]
