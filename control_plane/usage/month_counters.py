"""Each customer's count of the month in Redis, held against the roll-ups, while requests are admitted.

    at least    requests with a row that ended well or by the caller's fault: counted for good, so a lower count is raised to it
    at most     every request with a row, and those under way: what Redis counts beyond was admitted and never became a row

Why that is safe. `at least` is read before Redis: a row is younger than its admission, so Redis must have counted it by then. `at
most` is read after Redis and after the stream was drained: whatever was admitted before is then under way (it held a lease when
Redis was read), given back (then it was taken off), or in the roll-ups, because its event was journalled in the round trip that
ended its lease. Rows that come meanwhile only make the surplus smaller. An event may wait longer elsewhere (the spool of a
machine that is down), so only what was surplus at the last look too is taken off, as a difference; should the event come after
all, the next look raises the count again. A failed request may have been given back or not: between the bounds nothing is set.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import date
from uuid import UUID

import asyncpg
from redis.asyncio import Redis

from control_plane.limits.month_counter import MonthCounter, lower_counter, raise_counter, read_counters
from control_plane.usage.repair import record
from control_plane.usage.stream import STREAM

_ROLLED_UP = """
SELECT c.id, COALESCE(m.requests, 0) AS requests, COALESCE(m.failed, 0) AS failed
FROM customer_accounts c LEFT JOIN usage_months m ON m.customer_id = c.id AND m.month = $1
"""
_POLL_S = 0.1
_PER_READING = 500


class NotDrainedError(Exception):
    """Events from before the reading still wait to be recorded: nothing can be said now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterDifference:
    """One customer whose count is not between its bounds. `changed_by` is what was repaired; 0 when it was only looked at."""

    customer_id: UUID
    month: date
    used: int
    at_least: int
    at_most: int
    changed_by: int = 0


async def compare_counters(
    connection: "asyncpg.Connection", redis: Redis, month: date, *, patience_s: float = 60.0
) -> list[CounterDifference]:
    """Everybody whose count cannot be right. Raises NotDrainedError, and what redis-py raises when Redis is away."""
    before = {row["id"]: row for row in await connection.fetch(_ROLLED_UP, month)}
    customers = list(before)
    counters: dict[UUID, MonthCounter] = {}
    for start in range(0, len(customers), _PER_READING):
        counters |= await read_counters(redis, customers[start : start + _PER_READING], month)
    await _until_drained(redis, patience_s)
    after = {row["id"]: row for row in await connection.fetch(_ROLLED_UP, month)}
    bounds = [
        CounterDifference(
            customer_id=customer,
            month=month,
            used=counter.used,
            at_least=before[customer]["requests"] - before[customer]["failed"],
            at_most=after[customer]["requests"] + counter.in_flight,
        )
        for customer, counter in counters.items()
    ]
    return [found for found in bounds if not found.at_least <= found.used <= found.at_most]


async def repair_counters(
    connection: "asyncpg.Connection", redis: Redis, differences: list[CounterDifference], *, by: str
) -> list[CounterDifference]:
    """The same with what was changed, each change recorded."""
    return [await _repair(connection, redis, found, by=by) for found in differences]


async def _repair(connection: "asyncpg.Connection", redis: Redis, found: CounterDifference, *, by: str) -> CounterDifference:
    if found.used < found.at_least:
        raised = await raise_counter(redis, found.customer_id, found.month, at_least=found.at_least)
        change = raised.after - raised.before
    else:
        change = -await lower_counter(redis, found.customer_id, found.month, surplus=found.used - found.at_most)
    if change:
        sides = ({"month_used": found.used}, {"month_used": found.used + change})
        await record(connection, "month_counter", found.customer_id, found.month, change=sides, by=by)
    return replace(found, changed_by=change)


async def _until_drained(redis: Redis, patience_s: float) -> None:
    """Returns when everything that was in the stream at the call is recorded."""
    seconds, microseconds = await redis.time()
    now_ms = seconds * 1000 + microseconds // 1000
    for _ in range(max(1, int(patience_s / _POLL_S))):
        oldest: list[tuple[bytes, object]] = await redis.xrange(STREAM, count=1)  # type: ignore[assignment]  # bytes in and out
        if not oldest or int(oldest[0][0].split(b"-")[0]) > now_ms:
            return
        await asyncio.sleep(_POLL_S)
    raise NotDrainedError("usage events still wait in the stream; is the recorder at work?")
