"""A backup of a real database in a real store, restored and looked at; and everything that can go wrong on the way."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest
from structlog.typing import FilteringBoundLogger

from control_plane.backups.dump import BackupRunningError, Source, dump, only_one
from control_plane.backups.duty import BackupDuty, Plan
from control_plane.backups.keep import Keep
from control_plane.backups.manifest import Kind, new_id, part_key
from control_plane.backups.programs import ProgramError
from control_plane.backups.prove import prove
from control_plane.backups.restore import RestoreRefusedError, restore
from control_plane.backups.sealing import DamagedBackupError
from control_plane.backups.store import Vault
from control_plane.metrics import Metrics
from control_plane.objects import ObjectStoreAwayError
from tests.control_plane.backups.conftest import KEY, OWNER
from tests.control_plane.backups.test_store import kept, stream
from tests.control_plane.fake_objects import FakeObjects
from tests.control_plane.usage.conftest import Lines
from tests.control_plane.usage.making import counted

_ANOTHER_CUSTOMER = """
    INSERT INTO customer_accounts (id, company_name, email, tier)
    SELECT u, 'Beside', u || '@example.com', 'free' FROM (SELECT uuidv7() AS u) AS ids
"""


async def test_what_is_restored_is_what_was_there(source: Source, vault: Vault, empty_url: str) -> None:
    made = await dump(source, vault)
    assert made.facts.rows["inference_logs"] == 60
    assert {one.account for one in made.facts.ledger} >= {"receivable"}
    await restore(made, vault, into=empty_url, programs=source.programs)
    findings = await prove(made, empty_url)
    assert [finding for finding in findings if not finding.is_right] == []
    looked = {finding.what for finding in findings}
    assert {"rows of inference_logs", "ledger: receivable in USD, cents", "truth: ledger_balances", "schema revision"} <= looked


async def test_the_proof_finds_what_is_missing_or_untrue(source: Source, vault: Vault) -> None:
    made = await dump(source, vault)
    connection = await asyncpg.connect(source.database_url)
    await connection.execute("UPDATE usage_days SET requests = requests + 1 WHERE day = (SELECT min(day) FROM usage_days)")
    await connection.execute("CREATE TABLE somebody_elses ()")
    await connection.close()
    wrong = {finding.what for finding in await prove(made, source.database_url) if not finding.is_right}
    assert wrong == {"rows of somebody_elses", "truth: roll_ups_equal_rows"}


async def test_rows_that_come_while_it_is_made_are_in_neither_the_counts_nor_the_dump(
    source: Source, vault: Vault, empty_url: str
) -> None:
    """The counts are of the very snapshot that is dumped: a writer beside it makes no difference between them."""

    async def write() -> None:
        connection = await asyncpg.connect(source.database_url)
        try:
            while not stop.is_set():
                await connection.execute(_ANOTHER_CUSTOMER)
        finally:
            await connection.close()

    stop = asyncio.Event()
    writer = asyncio.create_task(write())
    try:
        made = await dump(source, vault)
    finally:
        stop.set()
        await writer
    await restore(made, vault, into=empty_url, programs=source.programs)
    assert [finding for finding in await prove(made, empty_url) if not finding.is_right] == []


async def test_a_database_with_anything_in_it_is_not_restored_into(source: Source, vault: Vault, empty_url: str) -> None:
    made = await dump(source, vault)
    connection = await asyncpg.connect(empty_url)
    await connection.execute("CREATE SEQUENCE somebody_elses")
    await connection.close()
    with pytest.raises(RestoreRefusedError, match="is not empty"):
        await restore(made, vault, into=empty_url, programs=source.programs)


async def test_a_damaged_backup_or_a_store_that_goes_away_leaves_an_empty_database_empty(
    source: Source, fake: FakeObjects, empty_url: str
) -> None:
    """pg_restore has begun by then: one transaction takes it all back."""
    vault = Vault(objects=fake, key=KEY)
    made = await dump(source, vault)
    whole = b"".join([piece async for piece in vault.read(made)])
    pieces = [whole[at : at + 4096] for at in range(0, len(whole), 4096)]
    small = await kept(vault, *pieces)
    fake.fails = lambda verb, key: (verb, key) == ("get", part_key(small.id, len(pieces) - 2))
    with pytest.raises(ObjectStoreAwayError):  # half-way
        await restore(small, vault, into=empty_url, programs=source.programs)
    fake.fails = lambda _verb, _key: False
    sealed = bytearray(fake.kept[part_key(small.id, len(pieces) - 2)])
    sealed[100] ^= 1
    fake.kept[part_key(small.id, len(pieces) - 2)] = bytes(sealed)
    with pytest.raises(DamagedBackupError):
        await restore(small, vault, into=empty_url, programs=source.programs)
    connection = await asyncpg.connect(empty_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
    await connection.close()
    await restore(made, vault, into=empty_url, programs=source.programs)  # and the next attempt finds it so


async def test_a_store_that_goes_away_leaves_no_backup_and_the_next_one_cleans_up(source: Source, fake: FakeObjects) -> None:
    vault = Vault(objects=fake, key=KEY)
    fake.fails = lambda verb, key: verb == "put" and "/manifests/" in key
    with pytest.raises(ObjectStoreAwayError):
        await dump(source, vault)
    assert (await vault.ids(), len(fake.kept)) == ([], 1)
    fake.fails = lambda _verb, _key: False
    made = await dump(source, vault)
    assert await vault.ids() == [made.id]
    assert set(fake.kept) == {part_key(made.id, 0), f"backups/manifests/{made.id}.json"}


async def test_two_are_never_made_at_once(source: Source, vault: Vault) -> None:
    async with only_one(source.database_url):
        with pytest.raises(BackupRunningError):
            await dump(source, vault)


async def test_without_its_programs_nothing_is_made_and_the_setting_is_named(source: Source, vault: Vault) -> None:
    with pytest.raises(ProgramError, match="VLA_POSTGRES_PROGRAMS"):
        await dump(replace(source, programs=Path("/nowhere")), vault)
    assert await vault.ids() == []


@pytest.fixture
def duty(source: Source, vault: Vault, metrics: Metrics, log: FilteringBoundLogger) -> BackupDuty:
    """As the worker's, long after its start."""
    plan = Plan(every=timedelta(hours=24), keep=Keep(daily=1, weekly=0, monthly=0))
    made = BackupDuty(source=source, vault=vault, plan=plan, metrics=metrics, log=log)
    made._not_before = datetime.now(UTC) - timedelta(hours=1)
    return made


async def test_the_worker_makes_one_when_it_is_due_and_removes_the_old(duty: BackupDuty, metrics: Metrics) -> None:
    old = new_id(Kind.DATABASE, datetime.now(UTC) - timedelta(hours=30), owner=OWNER)
    written = await duty.vault.write(old, stream(b"old"))
    manifest = await kept(duty.vault, b"any")
    await duty.vault.remove(manifest.id)
    await duty.vault.commit(msgspec.structs.replace(manifest, id=old, parts=written.parts))
    await duty.step()
    ids = await duty.vault.ids()
    assert len(ids) == 1
    assert ids != [old]
    assert counted(metrics, "vla_backups_total", outcome="made") == 1
    assert counted(metrics, "vla_backups_total", outcome="removed") == 1
    assert 0 <= counted(metrics, "vla_backup_age_seconds") < 600
    await duty.step()
    assert await duty.vault.ids() == ids


async def test_the_age_grows_while_the_store_is_away_and_is_infinite_without_any(
    source: Source, fake: FakeObjects, metrics: Metrics, log: FilteringBoundLogger, lines: Lines
) -> None:
    vault = Vault(objects=fake, key=KEY)
    plan = Plan(every=timedelta(hours=24), keep=Keep(daily=1, weekly=0, monthly=0))
    duty = BackupDuty(source=source, vault=vault, plan=plan, metrics=metrics, log=log)
    await duty.step()  # too soon after the start for making one
    assert counted(metrics, "vla_backup_age_seconds") == float("inf")
    duty._newest_at = datetime.now(UTC) - timedelta(hours=50)
    fake.fails = lambda _verb, _key: True
    with pytest.raises(ObjectStoreAwayError):
        await duty.step()
    assert counted(metrics, "vla_backup_age_seconds") >= 50 * 3600
    assert lines.said("backup made") == []
