"""The roll-ups `usage_days` and `usage_months`: what they count, and how a batch of new rows is added to them.

What a number means is written once here, for the recorder (which adds) and for `reconcile` (which counts again). UTC throughout.
"""

from collections.abc import Sequence

import asyncpg

# Column of the roll-ups → how it is counted from rows of inference_logs.
COUNTS = {
    "requests": "count(*)",
    "billable_requests": "count(*) FILTER (WHERE is_billable)",
    "refused": "count(*) FILTER (WHERE status = 'refused')",
    "invalid": "count(*) FILTER (WHERE status = 'invalid')",
    "failed": "count(*) FILTER (WHERE status IN ('timeout', 'error'))",
    "compute_us": "COALESCE(sum(round(compute_ms * 1000)::bigint), 0)::bigint",
}
DAY = "(timestamp AT TIME ZONE 'UTC')::date"
MONTH_OF_DAY = "date_trunc('month', day::timestamp)::date"

COUNTED = ", ".join(f"{expression} AS {name}" for name, expression in COUNTS.items())


async def add(connection: "asyncpg.Connection", groups: Sequence["asyncpg.Record"]) -> None:
    """Adds counts of new rows, by customer_id and day. In the caller's transaction; days before months, keys in order."""
    if not groups:
        return
    columns = [[group[name] for group in groups] for name in ("customer_id", "day", *COUNTS)]
    await connection.execute(_upsert("usage_days", "day", "day"), *columns)
    await connection.execute(_upsert("usage_months", "month", MONTH_OF_DAY), *columns)


def _upsert(table: str, period: str, period_of_day: str) -> str:
    return f"""
        INSERT INTO {table} AS kept (customer_id, {period}, {", ".join(COUNTS)})
        SELECT customer_id, {period_of_day}, {", ".join(f"sum({name})::bigint" for name in COUNTS)}
        FROM unnest($1::uuid[], $2::date[], {", ".join(f"${n}::bigint[]" for n in range(3, 3 + len(COUNTS)))})
             AS t (customer_id, day, {", ".join(COUNTS)})
        GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (customer_id, {period}) DO UPDATE
        SET {", ".join(f"{name} = kept.{name} + excluded.{name}" for name in COUNTS)}
    """  # noqa: S608 -- names of this module
