"""Daily partitions of `inference_logs`: made ahead by the worker and on demand by the recorder.

Built aside and then attached, which blocks neither readers nor writers of the log. Several makers at once are safe: they queue
for an advisory lock. Never drops anything.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta

import asyncpg

LOCK_TIMEOUT = "5s"

_LOCK_ID = 0x766C615F75736167  # "vla_usag": one maker at a time in the database
_PARENT = "inference_logs"


def partition_name(day: date) -> str:
    """The table that holds that UTC day."""
    return f"{_PARENT}_{day:%Y_%m_%d}"


def days_ahead(today: date, *, count: int) -> list[date]:
    """Yesterday (for what is still under way at midnight), today and the next `count` days."""
    return [today + timedelta(days=offset) for offset in range(-1, count + 1)]


async def ensure_partitions(connection: "asyncpg.Connection", days: Collection[date]) -> frozenset[date]:
    """Makes the missing partitions in one transaction. Returns the days that have one.

    Missing from the answer is a day that was archived, or whose table a person detached: it is never made a second time.
    """
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_ID)
        there = await attached(connection, days)
        archived = await _archived(connection, set(days) - there.keys())
        for day in sorted(set(days) - there.keys() - archived):
            await _make(connection, day)
    return frozenset(day for day in days if there.get(day, True) and day not in archived)


async def attached(connection: "asyncpg.Connection", days: Collection[date]) -> dict[date, bool]:
    """For each day whose table exists: is it part of the log?"""
    rows = await connection.fetch(
        """
        SELECT t.relname, EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = t.oid AND i.inhparent = parent.oid) AS is_attached
        FROM pg_class t JOIN pg_class parent ON parent.oid = $1::text::regclass AND parent.relnamespace = t.relnamespace
        WHERE t.relname = ANY ($2::text[])
        """,
        _PARENT,
        [partition_name(day) for day in days],
    )
    by_name = {row["relname"]: row["is_attached"] for row in rows}
    return {day: by_name[name] for day in days if (name := partition_name(day)) in by_name}


async def _archived(connection: "asyncpg.Connection", days: Collection[date]) -> frozenset[date]:
    """Days that left the database: a new table for one would take an old event for a new one, and bill it twice."""
    if not days:
        return frozenset()
    rows = await connection.fetch("SELECT day FROM usage_archive WHERE day = ANY ($1::date[])", list(days))
    return frozenset(row["day"] for row in rows)


async def _make(connection: "asyncpg.Connection", day: date) -> None:
    name, start, end = partition_name(day), _midnight(day), _midnight(day + timedelta(days=1))
    await connection.execute(f"CREATE TABLE {name} (LIKE {_PARENT} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)")
    await connection.execute(f"ALTER TABLE {_PARENT} ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')")


def _midnight(day: date) -> str:
    return datetime.combine(day, time(), tzinfo=UTC).isoformat()
