"""Nothing leaves the database that is not proven in the store, whenever the process is killed."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import asyncpg
import pyarrow.parquet as pq
import pytest
from structlog.typing import FilteringBoundLogger

from control_plane.db import connect, create_engine
from control_plane.metrics import Metrics
from control_plane.objects import ObjectStore
from control_plane.usage.archive import day as archive_day
from control_plane.usage.archive.manifest import manifest_key
from control_plane.usage.archive.parquet import COLUMNS
from control_plane.usage.archive.retention import Archivist, due_months
from control_plane.usage.dead_letters import Reason
from control_plane.usage.event import UsageEvent, encode
from control_plane.usage.intake import Intake
from control_plane.usage.partitions import ensure_partitions
from control_plane.usage.reconcile import reconcile
from tests.control_plane.fake_objects import FakeObjects
from tests.control_plane.usage.archive.conftest import DAYS, MONTH, after, take
from tests.control_plane.usage.conftest import Lines
from tests.control_plane.usage.making import count, counted, make_event

ROWS = "SELECT count(*) FROM inference_logs"
TABLES = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'inference_logs_2%'"


class Killed(BaseException):
    """The process ends here."""


def killed_at(number: int) -> Callable[[str, str], bool]:
    """Ends the run at the store's n-th call."""
    calls = iter(range(1, 10_000))

    def ask(_verb: str, _key: str) -> bool:
        if next(calls) == number:
            raise Killed
        return False

    return ask


async def test_a_closed_month_leaves_after_its_retention_with_real_files(
    database: asyncpg.Connection,
    database_url: str,
    closed: list[UsageEvent],
    objects: ObjectStore,
    metrics: Metrics,
    log: FilteringBoundLogger,
    tmp_path: object,
) -> None:
    archivist = Archivist(
        connect=partial(connect, database_url, timeout_s=30.0, name="test"), objects=objects, metrics=metrics, log=log
    )
    assert await archivist.run(60, today=after(59)) == 0
    assert await archivist.run(60, today=after(60)) == len(DAYS)
    assert await count(database, ROWS) == await count(database, TABLES) == 0
    assert counted(metrics, "vla_archive_days_total", result="dropped") == len(DAYS)
    manifest = json.loads(await objects.get(manifest_key(MONTH)))
    assert [file["day"] for file in manifest["days"]] == [str(day) for day in DAYS]
    assert sum(file["totals"]["requests"] for file in manifest["days"]) == len(closed)
    assert await archivist.run(60, today=after(60)) == 0


async def test_the_file_says_what_the_rows_said(
    database: asyncpg.Connection, closed: list[UsageEvent], archivist: Archivist, fake: FakeObjects
) -> None:
    rows = await database.fetch("SELECT * FROM inference_logs ORDER BY request_id")
    assert set(rows[0].keys()) == set(COLUMNS)
    await archivist.run(1, today=after(1))
    files = sorted(key for key in fake.kept if key.endswith(".parquet"))
    read = [row for key in files for row in pq.read_table(io.BytesIO(fake.kept[key])).to_pylist()]
    assert len(read) == len(rows)
    for was, kept in zip(rows, read, strict=True):
        for name, value in was.items():
            expected = str(value) if isinstance(value, UUID) else value
            assert kept[name] == expected, name


async def test_killed_at_any_call_to_the_store_the_next_run_finishes(
    database: asyncpg.Connection, closed: list[UsageEvent], archivist: Archivist, fake: FakeObjects
) -> None:
    calls = 2 * len(DAYS) + 3  # each day's file there and back; the manifest before, there and back
    for number in range(1, calls + 1):
        fake.fails = killed_at(number)
        with pytest.raises(Killed):
            await archivist.run(1, today=after(1))
        assert await count(database, "SELECT count(*) FROM usage_archive WHERE dropped_at IS NOT NULL") == 0
        assert await count(database, TABLES) == len(DAYS)
    fake.fails = killed_at(calls + 1)
    assert await archivist.run(1, today=after(1)) == len(DAYS)
    assert await count(database, TABLES) == 0
    kept = await database.fetch("SELECT requests FROM usage_archive WHERE dropped_at IS NOT NULL")
    assert sum(row["requests"] for row in kept) == len(closed)


async def test_a_kill_between_two_drops_is_gone_on_with(
    database: asyncpg.Connection,
    closed: list[UsageEvent],
    archivist: Archivist,
    monkeypatch: pytest.MonkeyPatch,
    fake: FakeObjects,
) -> None:
    real, drops = archive_day.drop, iter((False, True))

    async def drop(connection: asyncpg.Connection, day: object) -> None:
        if next(drops):
            raise Killed
        await real(connection, day)  # type: ignore[arg-type]  # a date

    with monkeypatch.context() as patch:
        patch.setattr(archive_day, "drop", drop)
        with pytest.raises(Killed):
            await archivist.run(1, today=after(1))
    assert await count(database, TABLES) == len(DAYS) - 1
    assert await archivist.run(1, today=after(1)) == len(DAYS) - 1
    assert len(json.loads(fake.kept[manifest_key(MONTH)])["days"]) == len(DAYS)
    hashes = await database.fetch("SELECT DISTINCT manifest_sha256 FROM usage_archive")
    assert len(hashes) == 1


@pytest.mark.parametrize("what", ["open", "draft", "late", "retention"])
async def test_a_month_that_is_not_done_stays(
    database: asyncpg.Connection, closed: list[UsageEvent], archivist: Archivist, customer_id: UUID, what: str
) -> None:
    if what == "open":
        await database.execute("ALTER TABLE closed_months DISABLE TRIGGER USER")
        await database.execute("DELETE FROM closed_months")
    if what == "draft":
        await database.execute(
            """INSERT INTO invoices (id, customer_id, month, currency, legal_entity, total_cents, seller, buyer, prices)
               VALUES (uuidv7(), $1, $2, 'USD', 'x', 0, '{}', '{}', '{}')""",
            customer_id,
            MONTH,
        )
    if what == "late":
        assert await take(database, [make_event(customer_id, at=datetime.combine(DAYS[1], datetime.min.time(), tzinfo=UTC))]) == 1
    assert await archivist.run(1, today=after(0 if what == "retention" else 1)) == 0
    assert await count(database, TABLES) == len(DAYS)


@pytest.mark.parametrize("where", ["rows", "roll-up", "store"])
async def test_what_cannot_be_proven_is_not_dropped_and_told(
    database: asyncpg.Connection,
    closed: list[UsageEvent],
    archivist: Archivist,
    fake: FakeObjects,
    metrics: Metrics,
    lines: Lines,
    where: str,
) -> None:
    if where == "rows":
        await database.execute("DELETE FROM inference_logs WHERE status = 'refused'")
    if where == "roll-up":
        await database.execute("UPDATE usage_days SET compute_us = compute_us + 1 WHERE day = $1", DAYS[0])
    if where == "store":
        honest = fake.get_file

        async def get_file(key: str, path: object) -> str:
            fake.kept[key] = fake.kept[key][:-1] + b"?"
            return await honest(key, path)  # type: ignore[arg-type]  # a path

        fake.get_file = get_file  # type: ignore[method-assign]  # a store that damages what it keeps
    assert await archivist.run(1, today=after(1)) == 0
    assert await count(database, TABLES) == len(DAYS)
    assert counted(metrics, "vla_archive_days_total", result="unproven") == 1
    assert len(lines.said("archive differs from the database")) == 1


async def test_an_event_of_a_dropped_day_is_set_aside_and_never_billed_again(
    database: asyncpg.Connection, database_url: str, closed: list[UsageEvent], archivist: Archivist
) -> None:
    long_running = Intake()
    await long_running.take(database, [encode(closed[0])], now=datetime.now(UTC))  # knows the day from before
    await archivist.run(1, today=after(1))
    before = await database.fetch("SELECT * FROM usage_months")
    with pytest.raises(asyncpg.CheckViolationError):
        await long_running.take(database, [encode(closed[0])], now=datetime.now(UTC))
    long_running.forget_days()
    outcome = await long_running.take(database, [encode(closed[0])], now=datetime.now(UTC))
    assert [letter.reason for letter in outcome.dead] == [Reason.NO_PARTITION]
    assert await ensure_partitions(database, DAYS) == frozenset()
    assert await database.fetch("SELECT * FROM usage_months") == before
    engine = create_engine(database_url, timeout_s=30.0)
    assert await reconcile(engine, MONTH) == ()
    await engine.dispose()


async def test_a_detaching_that_was_cut_short_is_finished(
    database: asyncpg.Connection,
    database_url: str,
    closed: list[UsageEvent],
    archivist: Archivist,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archive_day, "LOCK_TIMEOUT", "200ms")
    reader = await asyncpg.connect(database_url)
    async with reader.transaction():
        await reader.fetch("SELECT count(*) FROM inference_logs")  # a long report over the whole log
        with pytest.raises(asyncpg.LockNotAvailableError):
            await archivist.run(1, today=after(1))
    await reader.close()
    assert await count(database, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == 1
    assert await archivist.run(1, today=after(1)) == len(DAYS)


async def test_two_archivists_at_once_are_one(
    database: asyncpg.Connection, closed: list[UsageEvent], archivist: Archivist
) -> None:
    async with database.transaction():
        await database.execute("SELECT pg_advisory_lock($1)", 0x766C615F61726368)
        assert await archivist.run(1, today=after(1)) == 0
    await database.execute("SELECT pg_advisory_unlock_all()")
    assert await archivist.run(1, today=after(1)) == len(DAYS)


async def test_only_closed_settled_months_are_due(database: asyncpg.Connection, closed: list[UsageEvent]) -> None:
    assert await due_months(database, 30, today=after(30)) == [MONTH]
    assert await due_months(database, 30, today=after(30) - timedelta(days=1)) == []
