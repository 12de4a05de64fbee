"""Daily partitions: made by several at once, never twice, and without stopping anybody."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from control_plane.usage.partitions import days_ahead, ensure_partitions, partition_name

DAY = date(2026, 11, 30)
ATTACHED = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'inference_logs'::regclass ORDER BY 1
"""


async def attached(database: asyncpg.Connection) -> list[str]:
    """The partitions of the log."""
    return [row["relname"] for row in await database.fetch(ATTACHED)]


def test_a_week_ahead_is_yesterday_to_next_week() -> None:
    assert days_ahead(DAY, count=2) == [date(2026, 11, 29), DAY, date(2026, 12, 1), date(2026, 12, 2)]


async def test_each_day_is_one_partition_from_midnight_to_midnight_utc(database: asyncpg.Connection) -> None:
    await database.execute("SET timezone = 'Pacific/Kiritimati'")
    assert await ensure_partitions(database, [DAY]) == {DAY}
    assert await attached(database) == ["inference_logs_2026_11_30"]
    await database.execute("SET timezone = 'UTC'")
    bounds = await database.fetchval(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = $1", partition_name(DAY)
    )
    assert bounds == "FOR VALUES FROM ('2026-11-30 00:00:00+00') TO ('2026-12-01 00:00:00+00')"


async def test_a_partition_has_the_keys_and_checks_of_the_log(database: asyncpg.Connection) -> None:
    await ensure_partitions(database, [DAY])
    indexes = await database.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = $1", partition_name(DAY))
    checks = await database.fetchval(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND conrelid = $1::text::regclass", partition_name(DAY)
    )
    assert (indexes, checks) == (2, 4)


async def test_making_them_again_changes_nothing(database: asyncpg.Connection) -> None:
    days = [DAY, DAY + timedelta(days=1)]
    await ensure_partitions(database, days)
    assert await ensure_partitions(database, days) == set(days)
    assert len(await attached(database)) == 2


async def test_many_makers_at_once_make_each_once(database: asyncpg.Connection, database_url: str) -> None:
    days = [DAY + timedelta(days=n) for n in range(5)]
    makers = [await asyncpg.connect(database_url) for _ in range(6)]
    made = await asyncio.gather(*(ensure_partitions(maker, days[n % 3 :]) for n, maker in enumerate(makers)))
    assert made == [frozenset(days[n % 3 :]) for n in range(6)]
    assert await attached(database) == [partition_name(day) for day in days]
    for maker in makers:
        await maker.close()


async def test_makers_do_not_wait_for_readers_and_writers_of_the_log(database: asyncpg.Connection, database_url: str) -> None:
    await ensure_partitions(database, [DAY])
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("LOCK TABLE inference_logs IN ROW EXCLUSIVE MODE")  # as INSERT takes it
        assert await ensure_partitions(database, [DAY + timedelta(days=1)]) == {DAY + timedelta(days=1)}
    await other.close()


async def test_a_maker_that_cannot_get_its_lock_gives_up_and_leaves_nothing(
    database: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.usage.partitions.LOCK_TIMEOUT", "100ms")
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("LOCK TABLE inference_logs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await ensure_partitions(database, [DAY])
    assert await attached(database) == []
    await other.close()


async def test_a_detached_day_is_left_detached_and_said(database: asyncpg.Connection) -> None:
    today = datetime.now(UTC).date()
    await ensure_partitions(database, [DAY, today])
    await database.execute(f"ALTER TABLE inference_logs DETACH PARTITION {partition_name(DAY)}")
    assert await ensure_partitions(database, [DAY, today]) == {today}
    assert await attached(database) == [partition_name(today)]
