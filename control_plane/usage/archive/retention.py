"""Which months may leave the database, and the steps in order: freeze, export, prove, manifest, drop. Run nightly by the worker.

A month may leave when it is closed, none of its invoices is a draft, all its usage is settled and its retention is over. Nothing
is dropped that was not read back from the store and counted again. Killed anywhere, the next run goes on where this one was.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import asyncpg
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics
from control_plane.objects import NoSuchObjectError, ObjectStore
from control_plane.usage.archive import day as days
from control_plane.usage.archive.manifest import Counts, DayFile, Manifest, decode, encode, manifest_key
from control_plane.usage.archive.parquet import DamagedFileError, count_again
from control_plane.usage.recorder import Connect

_LOCK_ID = 0x766C615F61726368  # "vla_arch": one archivist at a time in the database

# `rated_usage` says how much of a day is settled; a late row that no close has seen keeps its month here.
_DUE = """
WITH parts AS (
    SELECT customer_id, day, billable_requests AS quantity FROM usage_days
    UNION ALL SELECT customer_id, day, quantity FROM usage_adjustments
    UNION ALL SELECT customer_id, day, -quantity FROM rated_usage
), unsettled AS (
    SELECT DISTINCT date_trunc('month', day::timestamp)::date AS month FROM (
        SELECT day FROM parts GROUP BY customer_id, day HAVING sum(quantity) <> 0
    ) AS days
)
SELECT c.month, u.month IS NULL AS is_settled,
       NOT EXISTS (SELECT FROM invoices i WHERE i.month = c.month AND i.state = 'draft') AS is_final
FROM closed_months c LEFT JOIN unsettled u ON u.month = c.month
WHERE (c.month + interval '1 month')::date + $1::integer <= $2 ORDER BY c.month
"""


class UnprovenError(Exception):
    """What came back from the store is not what the database has; the text says what differs. Nothing was dropped."""


class Archivist:
    """One run's seams: the database, the store, and what it tells."""

    def __init__(self, *, connect: Connect, objects: ObjectStore, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._connect = connect
        self._objects = objects
        self._metrics = metrics
        self._log = log

    async def run(self, retention_days: int, *, today: date | None = None) -> int:
        """Archives every month that is due. Returns how many days were dropped. A second run beside this one does nothing."""
        connection = await self._connect()
        try:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_ID):
                return 0
            dropped = 0
            for month in await due_months(connection, retention_days, today=today or datetime.now(UTC).date()):
                dropped += await self._archive(connection, month)
            return dropped
        finally:
            await connection.close()

    async def _archive(self, connection: "asyncpg.Connection", month: date) -> int:
        waiting = await _waiting(connection, month)
        if not waiting:
            return 0
        for day in waiting:
            await days.freeze(connection, day)
        try:
            files = [await self._export(connection, day) for day in waiting]
            await self._commit(connection, month, files)
        except UnprovenError as error:
            self._log.error("archive differs from the database", month=f"{month:%Y-%m}", detail=str(error))
            self._metrics.bookkeeping.archive_days.labels("unproven").inc()
            return 0
        for day in waiting:
            await days.drop(connection, day)
            self._metrics.bookkeeping.archive_days.labels("dropped").inc()
        self._log.info("month archived", month=f"{month:%Y-%m}", days=len(waiting))
        return len(waiting)

    async def _export(self, connection: "asyncpg.Connection", day: date) -> DayFile:
        """The day's file in the store, read back and counted by other means than those it was made by."""
        with tempfile.TemporaryDirectory(prefix="vla-archive-") as folder:
            ours, back = Path(folder) / "ours.parquet", Path(folder) / "back.parquet"
            file = await days.write(connection, day, ours)
            await self._objects.put_file(file.key, ours)
            if await self._objects.get_file(file.key, back) != file.sha256:
                raise UnprovenError(f"{file.key}: came back with other bytes")
            await _prove(file, back, await days.rolled_up(connection, day))
        await days.mark_exported(connection, file)
        return file

    async def _commit(self, connection: "asyncpg.Connection", month: date, files: Sequence[DayFile]) -> None:
        """The manifest, after the last file; days of the month that were dropped before stay in it."""
        known = await self._known(month)
        known |= {file.day: file for file in files}
        data = encode(Manifest(month=f"{month:%Y-%m}", days=[known[day] for day in sorted(known)]))
        await self._objects.put(manifest_key(month), data)
        if await self._objects.get(manifest_key(month)) != data:
            raise UnprovenError(f"{manifest_key(month)}: came back with other bytes")
        await connection.execute(
            "UPDATE usage_archive SET manifest_sha256 = $2 WHERE exported_at IS NOT NULL AND day = ANY ($1::date[])",
            days.days_of(month),
            sha256(data).digest(),
        )

    async def _known(self, month: date) -> dict[date, DayFile]:
        try:
            return {file.day: file for file in decode(await self._objects.get(manifest_key(month))).days}
        except NoSuchObjectError:
            return {}


async def due_months(connection: "asyncpg.Connection", retention_days: int, *, today: date) -> list[date]:
    """Closed, final, settled, and past their retention."""
    rows = await connection.fetch(_DUE, retention_days, today)
    return [row["month"] for row in rows if row["is_settled"] and row["is_final"]]


async def _waiting(connection: "asyncpg.Connection", month: date) -> list[date]:
    """Days that are still tables: part of the log, or frozen by a run that was cut short."""
    frozen = await connection.fetch(
        "SELECT day FROM usage_archive WHERE dropped_at IS NULL AND day = ANY ($1::date[])", days.days_of(month)
    )
    return sorted({row["day"] for row in frozen} | set(await days.attached_days(connection, month)))


async def _prove(file: DayFile, back: Path, rolled_up: Counts) -> None:
    try:
        found = await asyncio.to_thread(count_again, back)
    except DamagedFileError as error:
        raise UnprovenError(f"{file.key}: {error}") from None
    faults = days.differences(file.customers, found) + days.differences(file.customers, rolled_up)
    if faults:
        raise UnprovenError(f"{file.key}: {faults[0]} ({len(faults)} in all)")
