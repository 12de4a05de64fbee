"""Roll-ups that differ from their rows are made from the rows again, one transaction for each, with a record of what was there.

Recorders stand still only while one customer's day is counted: both roll-up tables are locked against writers first.
A recorder that has inserted rows and not yet added them waits and adds them afterwards; one that has added them is waited for. A
day whose rows cannot be seen (its partition is not attached) is left as it is: nothing is ever taken for zero.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import asyncpg

from control_plane.usage.partitions import LOCK_TIMEOUT, attached
from control_plane.usage.reconcile import Difference
from control_plane.usage.roll_ups import COUNTED, COUNTS

_NAMES = ", ".join(COUNTS)
_SUMS = ", ".join(f"COALESCE(sum({name}), 0)::bigint AS {name}" for name in COUNTS)

_COUNT_DAY = f"""
    SELECT {COUNTED} FROM inference_logs
    WHERE customer_id = $1 AND NOT is_test AND timestamp >= $2::date::timestamp AT TIME ZONE 'UTC'
      AND timestamp < ($2::date + 1)::timestamp AT TIME ZONE 'UTC'
"""  # noqa: S608 -- names of this package
_SUM_MONTH = f"SELECT {_SUMS} FROM usage_days WHERE customer_id = $1 AND day >= $2 AND day < $2 + interval '1 month'"  # noqa: S608


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What became of one difference."""

    difference: Difference
    is_repaired: bool
    reason: str = ""


async def repair(connection: "asyncpg.Connection", differences: Sequence[Difference], *, by: str) -> list[Repair]:
    """Days first, then the months they are in. What meanwhile agrees again is left alone."""
    days = [found for found in differences if found.roll_up == "usage_days"]
    visible = await attached(connection, {found.starts_on for found in days})
    hidden = {(found.customer_id, found.starts_on.replace(day=1)) for found in days if not visible.get(found.starts_on)}
    repairs = []
    for found in sorted(differences, key=lambda found: (found.roll_up, found.starts_on, found.customer_id)):
        is_hidden = (found.customer_id, found.starts_on) in hidden
        if found.roll_up == "usage_days":
            is_hidden = not visible.get(found.starts_on)
        if is_hidden:
            repairs.append(Repair(difference=found, is_repaired=False, reason="its rows are not in the database"))
            continue
        await _rebuild(connection, found, by=by)
        repairs.append(Repair(difference=found, is_repaired=True))
    return repairs


async def record(
    connection: "asyncpg.Connection", what: str, customer_id: UUID, starts_on: date, *, change: tuple[object, object], by: str
) -> None:
    """A line in `usage_corrections`."""
    before, after = (json.dumps(side) for side in change)
    await connection.execute(
        """INSERT INTO usage_corrections (what, customer_id, starts_on, before, after, corrected_by)
           VALUES ($1, $2, $3, $4, $5, $6)""",
        what,
        customer_id,
        starts_on,
        before,
        after,
        by,
    )


async def _rebuild(connection: "asyncpg.Connection", found: Difference, *, by: str) -> None:
    period = found.roll_up.removeprefix("usage_").removesuffix("s")
    key = (found.customer_id, found.starts_on)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute("LOCK TABLE usage_days, usage_months IN SHARE ROW EXCLUSIVE MODE")
        right = dict(await connection.fetchrow(_COUNT_DAY if period == "day" else _SUM_MONTH, *key))
        query = f"SELECT {_NAMES} FROM {found.roll_up} WHERE customer_id = $1 AND {period} = $2"  # noqa: S608 -- our names
        kept = await connection.fetchrow(query, *key)
        before: Mapping[str, int] | None = None if kept is None else dict(kept)
        if before == right:
            return
        await connection.execute(_put(found.roll_up, period), *key, *right.values())
        await record(connection, found.roll_up, *key, change=(before, right), by=by)


def _put(table: str, period: str) -> str:
    places = ", ".join(f"${n}" for n in range(1, 3 + len(COUNTS)))
    return f"""
        INSERT INTO {table} (customer_id, {period}, {_NAMES}) VALUES ({places})
        ON CONFLICT (customer_id, {period}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COUNTS)}
    """  # noqa: S608 -- names of this package
