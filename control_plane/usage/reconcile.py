"""The invariant of metering: the roll-ups say exactly what the rows say. Runs nightly in production and in the tests.

Counts a month again from `inference_logs` and compares it with `usage_days` and `usage_months`, in one statement and so in one
snapshot, while recorders are at work. Days that left the database are taken from `usage_days` (their own proof is
`vlaapi usage audit`). Repairs nothing: `repair` does.
"""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.usage.roll_ups import COUNTED, COUNTS, DAY, MONTH_OF_DAY

_SUMS = ", ".join(f"sum({name})::bigint AS {name}" for name in COUNTS)


def _compared(raw: str, kept: str, period: str) -> str:
    """Pairs of what the rows and what the roll-up say about one customer and period, where they differ."""
    pairs = ", ".join(f"COALESCE(raw.{name}, 0) AS raw_{name}, COALESCE(kept.{name}, 0) AS kept_{name}" for name in COUNTS)
    raw_counts, kept_counts = (", ".join(f"COALESCE({side}.{name}, 0)" for name in COUNTS) for side in ("raw", "kept"))
    return f"""
        SELECT '{kept}' AS roll_up, customer_id, {period} AS starts_on, {pairs}
        FROM {raw} AS raw FULL JOIN (
            SELECT * FROM {kept} WHERE {period} >= :first AND {period} < :beyond
        ) AS kept USING (customer_id, {period})
        WHERE ({raw_counts}) IS DISTINCT FROM ({kept_counts})
    """  # noqa: S608 -- names of this package


_DIFFERENCES = f"""
    WITH raw_days AS (
        SELECT customer_id, {DAY} AS day, {COUNTED} FROM inference_logs
        WHERE timestamp >= (:first)::timestamp AT TIME ZONE 'UTC' AND timestamp < (:beyond)::timestamp AT TIME ZONE 'UTC'
          AND NOT is_test AND {DAY} NOT IN (SELECT day FROM usage_archive)
        GROUP BY 1, 2
        UNION ALL
        SELECT customer_id, day, {", ".join(COUNTS)} FROM usage_days
        WHERE day >= :first AND day < :beyond AND day IN (SELECT day FROM usage_archive)
    ), raw_months AS (
        SELECT customer_id, {MONTH_OF_DAY} AS month, {_SUMS} FROM raw_days GROUP BY 1, 2
    )
    {_compared("raw_days", "usage_days", "day")} UNION ALL {_compared("raw_months", "usage_months", "month")}
    ORDER BY 1, 2, 3
"""  # noqa: S608 -- as above


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One roll-up row that does not say what its log rows say. `counts` maps a column to (in the rows, in the roll-up)."""

    roll_up: str
    customer_id: UUID
    starts_on: date
    counts: dict[str, tuple[int, int]]


async def reconcile(engine: AsyncEngine, month: date) -> tuple[Difference, ...]:
    """Every difference in the UTC month that holds `month`; empty when all is well. Reads all rows of that month."""
    first = month.replace(day=1)
    beyond = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    async with engine.connect() as connection:
        found = await connection.execute(text(_DIFFERENCES), {"first": first, "beyond": beyond})
        return tuple(
            Difference(
                roll_up=row["roll_up"],
                customer_id=row["customer_id"],
                starts_on=row["starts_on"],
                counts={
                    name: (row[f"raw_{name}"], row[f"kept_{name}"])
                    for name in COUNTS
                    if row[f"raw_{name}"] != row[f"kept_{name}"]
                },
            )
            for row in found.mappings()
        )
