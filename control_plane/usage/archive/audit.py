"""A month derived again from its files and compared with everything that was built on it: roll-ups, settled usage, hashes.

Days that are still in the database are counted there. Every disagreement is a finding in words; nothing is repaired. The hashes
it trusts are those in PostgreSQL, so files *and* manifest changed together are found too.
"""

import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path

import asyncpg

from control_plane.objects import NoSuchObjectError, ObjectStore
from control_plane.usage.archive import day as days
from control_plane.usage.archive.manifest import Counts, DayFile, decode, manifest_key, total
from control_plane.usage.archive.parquet import DamagedFileError, count_again
from control_plane.usage.roll_ups import COUNTS

_SETTLED = """
SELECT customer_id, sum(counted)::bigint AS used, sum(settled)::bigint AS settled FROM (
    SELECT customer_id, day, quantity AS counted, 0 AS settled FROM usage_adjustments
    UNION ALL SELECT customer_id, day, 0, quantity FROM rated_usage
) AS part WHERE day = ANY ($1::date[]) GROUP BY 1
"""


@dataclass(slots=True, kw_only=True)
class Audit:
    """What was looked at, and everything that is not as it must be."""

    month: date
    days_from_files: int = 0
    days_from_database: int = 0
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    findings: list[str] = field(default_factory=list)


async def audit_month(connection: "asyncpg.Connection", objects: ObjectStore, month: date) -> Audit:
    """Reads every file of the month. Raises ObjectStoreAwayError."""
    audit = Audit(month=month.replace(day=1))
    archived = await connection.fetch(
        "SELECT * FROM usage_archive WHERE day = ANY ($1::date[]) AND exported_at IS NOT NULL ORDER BY day", days.days_of(month)
    )
    described = await _read_manifest(audit, objects, archived)
    derived: Counts = {}
    for record in archived:
        counts = await _count_file(audit, objects, record, described.get(record["day"]))
        await _compare_day(audit, connection, record["day"], counts, derived)
        audit.days_from_files += 1
    for day in await _days_in_database(connection, month):
        await _compare_day(audit, connection, day, await days.counted(connection, day), derived)
        audit.days_from_database += 1
    await _compare_month(audit, connection, derived)
    await _compare_settled(audit, connection, derived)
    audit.totals = total(derived)
    return audit


async def _days_in_database(connection: "asyncpg.Connection", month: date) -> list[date]:
    """Days of the log, and those that an export was begun for and not finished."""
    begun = await connection.fetch(
        "SELECT day FROM usage_archive WHERE day = ANY ($1::date[]) AND exported_at IS NULL", days.days_of(month)
    )
    exported = await connection.fetch(
        "SELECT day FROM usage_archive WHERE day = ANY ($1::date[]) AND exported_at IS NOT NULL", days.days_of(month)
    )
    tables = {row["day"] for row in begun} | set(await days.attached_days(connection, month))
    return sorted(tables - {row["day"] for row in exported})


async def _read_manifest(audit: Audit, objects: ObjectStore, archived: list["asyncpg.Record"]) -> dict[date, DayFile]:
    if not archived:
        return {}
    key = manifest_key(audit.month)
    try:
        data = await objects.get(key)
    except NoSuchObjectError:
        audit.findings.append(f"{key}: missing")
        return {}
    if any(record["manifest_sha256"] != sha256(data).digest() for record in archived):
        audit.findings.append(f"{key}: is not the manifest that was written")
    try:
        return {file.day: file for file in decode(data).days}
    except ValueError:
        audit.findings.append(f"{key}: cannot be read")
        return {}


async def _count_file(audit: Audit, objects: ObjectStore, record: "asyncpg.Record", described: DayFile | None) -> Counts:
    key, expected = record["object_key"], record["sha256"].hex()
    with tempfile.TemporaryDirectory(prefix="vla-audit-") as folder:
        path = Path(folder) / "rows.parquet"
        try:
            digest = await objects.get_file(key, path)
            if digest != expected:
                audit.findings.append(f"{key}: is not the file that was exported (sha256 {digest[:12]}…, was {expected[:12]}…)")
            counts = await asyncio.to_thread(count_again, path)
        except NoSuchObjectError:
            audit.findings.append(f"{key}: missing")
            return {}
        except DamagedFileError as error:
            audit.findings.append(f"{key}: {error}")
            return {}
    if described is None or described.sha256 != expected:
        audit.findings.append(f"{key}: the manifest does not describe this file")
    return counts


async def _compare_day(audit: Audit, connection: "asyncpg.Connection", day: date, counts: Counts, derived: Counts) -> None:
    for customer, of_one in counts.items():
        sums = derived.setdefault(customer, dict.fromkeys(COUNTS, 0))
        for name in COUNTS:
            sums[name] += of_one[name]
    _say(audit, f"usage_days {day}", days.differences(counts, await days.rolled_up(connection, day)))


async def _compare_month(audit: Audit, connection: "asyncpg.Connection", derived: Counts) -> None:
    rows = await connection.fetch("SELECT * FROM usage_months WHERE month = $1 AND requests <> 0", audit.month)
    kept: Counts = {row["customer_id"]: {name: row[name] for name in COUNTS} for row in rows}
    _say(audit, f"usage_months {audit.month:%Y-%m}", days.differences(derived, kept))


async def _compare_settled(audit: Audit, connection: "asyncpg.Connection", derived: Counts) -> None:
    """What was billed for these days, over all closes, against what the rows say. An open month is not settled yet."""
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM closed_months WHERE month = $1)", audit.month):
        return
    rows = await connection.fetch(_SETTLED, days.days_of(audit.month))
    adjusted = {row["customer_id"]: row["used"] for row in rows}
    settled = {row["customer_id"]: row["settled"] for row in rows}
    for customer in sorted(settled.keys() | derived.keys()):
        used = adjusted.get(customer, 0) + derived.get(customer, {}).get("billable_requests", 0)
        if used != settled.get(customer, 0):
            audit.findings.append(f"invoices: customer {customer}: {settled.get(customer, 0)} settled but {used} in the rows")


def _say(audit: Audit, where: str, faults: Iterable[str]) -> None:
    audit.findings.extend(f"{where} {fault}" for fault in faults)
