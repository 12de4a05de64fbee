"""One batch of usage events into PostgreSQL: rows, roll-ups and dead letters in one transaction.

COPY into a staging table → INSERT … ON CONFLICT DO NOTHING → roll-ups from what was inserted, and from nothing else. Running it
again with any of the same events changes nothing. Locks are taken in one order (ids, days, months), so recorders cannot deadlock.
Called by `intake`; knows no Redis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from control_plane.usage import roll_ups
from control_plane.usage.dead_letters import DeadLetter, Reason, set_aside
from control_plane.usage.redact import redacted
from control_plane.usage.roll_ups import COUNTED, DAY
from control_plane.usage.rows import COLUMNS, Row

# Not the server's trouble but these rows': bad values (22), broken constraints (23), too large for PostgreSQL (54).
_ROWS_AT_FAULT = ("22", "23", "54")

_STAGING = """
CREATE TEMP TABLE IF NOT EXISTS usage_staging (
    position integer, request_id uuid, timestamp timestamptz, customer_id uuid, key_id uuid, route text, model text,
    model_version integer, robot_type text, instruction text, action real[], action_chunk real[], raw_action real[],
    safety_score double precision, decision text, limiting_rule text, latency_ms double precision, compute_ms double precision,
    status text, error_code text, session_id text, is_billable boolean, is_test boolean, payload_hash bytea
) ON COMMIT DELETE ROWS
"""

_STAGED = ", ".join("to_jsonb(s.action)" if column == "action" else f"s.{column}" for column in COLUMNS)

_INSERT = f"""
WITH recorded AS (
    INSERT INTO inference_logs ({", ".join(COLUMNS)})
    SELECT {_STAGED} FROM usage_staging s JOIN customer_accounts c ON c.id = s.customer_id
    ORDER BY s.request_id, s.position
    ON CONFLICT DO NOTHING
    RETURNING customer_id, timestamp, status, is_billable, is_test, compute_ms
)
SELECT customer_id, {DAY} AS day, is_test, {COUNTED} FROM recorded GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""  # noqa: S608 -- column names of this module

# LIMIT 1 keeps it one index look-up per staged row; a hash join would read the whole log.
_NOT_RECORDED = """
SELECT s.position, c.id IS NULL AS is_unknown_customer
FROM usage_staging s
LEFT JOIN customer_accounts c ON c.id = s.customer_id
LEFT JOIN LATERAL (
    SELECT l.payload_hash FROM inference_logs l WHERE l.request_id = s.request_id AND l.timestamp = s.timestamp LIMIT 1
) AS there ON true
WHERE c.id IS NULL OR there.payload_hash <> s.payload_hash
ORDER BY s.position
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a batch; every event is exactly one of these."""

    recorded: int
    duplicates: int
    dead: tuple[DeadLetter, ...]
    newest_at: datetime | None = None  # of the rows taken

    def __add__(self, other: "Outcome") -> "Outcome":
        newest = [instant for instant in (self.newest_at, other.newest_at) if instant is not None]
        return Outcome(
            recorded=self.recorded + other.recorded,
            duplicates=self.duplicates + other.duplicates,
            dead=self.dead + other.dead,
            newest_at=max(newest, default=None),
        )


class RowsRejectedError(Exception):
    """The database will not have at least one of these rows, now or later. Nothing of the batch was stored."""


async def store(connection: "asyncpg.Connection", rows: Sequence[Row], *, dead: Sequence[DeadLetter] = ()) -> Outcome:
    """Stores the batch and sets `dead` aside, all or nothing.

    Raises RowsRejectedError when a row is at fault; whatever else asyncpg raises is about the server and may be tried again.
    """
    try:
        async with connection.transaction():
            rows, dead = await redacted(connection, rows, dead)
            return await _store(connection, rows, tuple(dead))
    except asyncpg.PostgresError as error:
        if not _are_rows_at_fault(error):
            raise
        raise RowsRejectedError(f"{error.sqlstate}: {error.args[0]}") from error  # its DETAIL would quote the row
    except (TypeError, ValueError, OverflowError) as error:  # asyncpg could not encode a value
        raise RowsRejectedError(str(error)) from error


def _are_rows_at_fault(error: asyncpg.PostgresError) -> bool:
    if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None:
        return False  # a partition went away meanwhile; it is made again on the next attempt
    return error.sqlstate is not None and error.sqlstate.startswith(_ROWS_AT_FAULT)


async def _store(connection: "asyncpg.Connection", rows: Sequence[Row], dead: tuple[DeadLetter, ...]) -> Outcome:
    recorded, refused = await _insert(connection, rows) if rows else (0, ())
    if dead or refused:
        await set_aside(connection, dead + refused)
    return Outcome(
        recorded=recorded,
        duplicates=len(rows) - recorded - len(refused),
        dead=dead + refused,
        newest_at=max((row.occurred_at for row in rows), default=None),
    )


async def _insert(connection: "asyncpg.Connection", rows: Sequence[Row]) -> tuple[int, tuple[DeadLetter, ...]]:
    await connection.execute(_STAGING)
    await connection.execute("DELETE FROM usage_staging")  # another batch of the same outer transaction
    records = ((position, *row.values) for position, row in enumerate(rows))
    await connection.copy_records_to_table("usage_staging", records=records, columns=("position", *COLUMNS))
    groups = await connection.fetch(_INSERT)
    await roll_ups.add(connection, [group for group in groups if not group["is_test"]])
    recorded = sum(group["requests"] for group in groups)
    if recorded == len(rows):
        return recorded, ()
    return recorded, tuple(_refused(await connection.fetch(_NOT_RECORDED), rows))


def _refused(found: Sequence["asyncpg.Record"], rows: Sequence[Row]) -> Iterator[DeadLetter]:
    for record in found:
        row = rows[record["position"]]
        if row.is_idempotent and not record["is_unknown_customer"]:
            continue  # one request, attempted twice under its Idempotency-Key: the row that is there is the one that counts
        reason, detail = (
            (Reason.UNKNOWN_CUSTOMER, "there is no such customer")
            if record["is_unknown_customer"]
            else (Reason.CONFLICT, "this id has a row with another payload")
        )
        yield DeadLetter(payload=row.payload, reason=reason, detail=detail, request_id=row.request_id)
