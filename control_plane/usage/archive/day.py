"""One day's partition on its way out: frozen (detached), described (written to a file and counted), dropped.

A frozen day can no longer be written, so what is exported is what there was; a late event for it becomes a dead letter
(`no_partition`) and can never be billed a second time. Every step may be repeated after a crash. Knows no object store.
"""

import asyncio
import hashlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from control_plane.usage.archive.manifest import Counts, DayFile, day_key, total
from control_plane.usage.archive.parquet import COLUMNS, ROWS_PER_GROUP, DayWriter
from control_plane.usage.partitions import LOCK_TIMEOUT, partition_name
from control_plane.usage.roll_ups import COUNTED, COUNTS

_PARENT = "inference_logs"

_ATTACHED = """
SELECT c.relname, i.inhdetachpending FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = $1::text::regclass AND c.relname = ANY ($2::text[])
"""


def days_of(month: date) -> list[date]:
    """Every day of the month that holds `month`."""
    first = month.replace(day=1)
    beyond = (first + timedelta(days=31)).replace(day=1)
    return [first + timedelta(days=offset) for offset in range((beyond - first).days)]


async def attached_days(connection: "asyncpg.Connection", month: date) -> list[date]:
    """The days of a month that are part of the log, those whose detaching was cut short included."""
    names = {partition_name(day): day for day in days_of(month)}
    return sorted(names[row["relname"]] for row in await connection.fetch(_ATTACHED, _PARENT, list(names)))


async def freeze(connection: "asyncpg.Connection", day: date) -> None:
    """Takes the day out of the log without stopping readers or writers. Not in a transaction: PostgreSQL does it in two."""
    name = partition_name(day)
    await connection.execute("INSERT INTO usage_archive (day) VALUES ($1) ON CONFLICT DO NOTHING", day)
    found = await connection.fetchrow(_ATTACHED, _PARENT, [name])
    if found is None:
        return
    await connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    how = "FINALIZE" if found["inhdetachpending"] else "CONCURRENTLY"
    await connection.execute(f"ALTER TABLE {_PARENT} DETACH PARTITION {name} {how}")


async def write(connection: "asyncpg.Connection", day: date, path: Path) -> DayFile:
    """The frozen day as a file, with what its rows add up to by the database's own counting."""
    await asyncio.to_thread(path.unlink, missing_ok=True)
    query = f"SELECT {', '.join(COLUMNS)} FROM {partition_name(day)} ORDER BY request_id"  # noqa: S608 -- our names
    with await asyncio.to_thread(DayWriter, path) as writer:
        async with connection.transaction():
            cursor = await connection.cursor(query)
            while rows := await cursor.fetch(ROWS_PER_GROUP):
                await asyncio.to_thread(writer.add, rows)
    counts = await counted(connection, day)
    digest, size = await asyncio.to_thread(_digest, path)
    return DayFile(day=day, key=day_key(day), sha256=digest, size_bytes=size, totals=total(counts), customers=counts)


async def counted(connection: "asyncpg.Connection", day: date) -> Counts:
    """What each customer's rows of a day's table add up to."""
    query = f"SELECT customer_id, {COUNTED} FROM {partition_name(day)} WHERE NOT is_test GROUP BY 1"  # noqa: S608 -- our names
    return _by_customer(await connection.fetch(query))


async def rolled_up(connection: "asyncpg.Connection", day: date) -> Counts:
    """What the roll-ups say about a day."""
    query = f"SELECT customer_id, {', '.join(COUNTS)} FROM usage_days WHERE day = $1 AND requests <> 0"  # noqa: S608 -- as above
    return _by_customer(await connection.fetch(query, day))


async def mark_exported(connection: "asyncpg.Connection", file: DayFile) -> None:
    """Keeps the hashes where the objects' owner cannot change them."""
    await connection.execute(
        """
        UPDATE usage_archive SET object_key = $2, sha256 = $3, size_bytes = $4, requests = $5, billable_requests = $6,
               exported_at = now() WHERE day = $1 AND dropped_at IS NULL
        """,
        file.day,
        file.key,
        bytes.fromhex(file.sha256),
        file.size_bytes,
        file.totals["requests"],
        file.totals["billable_requests"],
    )


async def drop(connection: "asyncpg.Connection", day: date) -> None:
    """The table and the note that it is gone, together. The table's own check refuses a day without a manifest."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute("UPDATE usage_archive SET dropped_at = $2 WHERE day = $1", day, datetime.now(UTC))
        await connection.execute(f"DROP TABLE IF EXISTS {partition_name(day)}")


def differences(one: Counts, other: Counts) -> list[str]:
    """Where two counts of the same day disagree, in words."""
    nothing = dict.fromkeys(COUNTS, 0)
    return [
        f"customer {customer}: {name} {other.get(customer, nothing)[name]} but {one.get(customer, nothing)[name]} in the rows"
        for customer in sorted(one.keys() | other.keys())
        for name in COUNTS
        if one.get(customer, nothing)[name] != other.get(customer, nothing)[name]
    ]


def _by_customer(rows: Iterable["asyncpg.Record"]) -> Counts:
    return {
        UUID(str(row["customer_id"])): {name: row[name] for name in COUNTS}
        for row in sorted(rows, key=lambda row: str(row["customer_id"]))
    }


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
