"""Puts back into Redis what PostgreSQL can say: counts of day and month, the standing of policies, what is known of every key.

    cannot be made again    events that wait in the stream: the one thing that is only here. Nothing is emptied while there is one
    begins anew             the minute's buckets (everybody has a full one), the guard's sessions, what Idempotency-Keys remember
    comes by itself         counts of spending (from the stores), the roll call of processes, requests under way

Counts are raised and never lowered, so this may be done while requests are admitted, and twice.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import database_errors
from control_plane.identity import known_keys
from control_plane.identity.lookup import look_up
from control_plane.limits.month_counter import Used, raise_used
from control_plane.policies.announce import announce
from control_plane.policies.standing import read_standing
from control_plane.usage.stream import STREAM, Consumer

_POLL_S = 0.1
_KEYS_AT_ONCE = 16

# Counted are requests that ended well or by the caller's fault, as `month_counters` does: the others may have been given back.
_USED = text("""
    SELECT m.customer_id, false AS is_test, m.requests - m.failed AS in_month,
           COALESCE((SELECT d.requests - d.failed FROM usage_days d WHERE d.customer_id = m.customer_id AND d.day = :day), 0)
             AS in_day
    FROM usage_months m WHERE m.month = date_trunc('month', :day ::timestamp)::date
    UNION ALL
    SELECT customer_id, true, count(*), count(*) FILTER (WHERE timestamp >= :day ::timestamp AT TIME ZONE 'UTC')
    FROM inference_logs
    WHERE is_test AND status NOT IN ('timeout', 'error')
      AND timestamp >= date_trunc('month', :day ::timestamp) AT TIME ZONE 'UTC' GROUP BY customer_id
""")
_DIGESTS = text("""
    SELECT k.digest FROM api_keys k JOIN customer_accounts c ON c.id = k.customer_id
    WHERE k.revoked_at IS NULL AND c.is_active AND (k.expires_at IS NULL OR k.expires_at > now()) ORDER BY k.id
""")
# One step: an event cannot come between the look and the emptying.
_EMPTY = "if redis.call('XLEN', KEYS[1]) > 0 then return 0 end redis.call('FLUSHDB') return 1"


class EventsWaitError(Exception):
    """Usage events are in the stream and not in the database yet. Nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What was put back."""

    counters: int
    keys: int
    standing_revision: int


async def rebuild(engine: AsyncEngine, redis: Redis, *, is_emptied_first: bool, patience_s: float) -> Rebuilt:
    """Raises EventsWaitError when the recorder does not drain the stream in time, and what stores raise when they are away."""
    if is_emptied_first:
        await _empty(redis, patience_s)
    await _until_recorded(redis, patience_s)
    await Consumer(redis, name="rebuild").join()
    day = datetime.fromtimestamp((await redis.time())[0], UTC).date()
    raised = [await raise_used(redis, used) for used in await _used(engine, day)]
    standing = await read_standing(engine)
    await announce(redis, standing)
    return Rebuilt(counters=sum(raised), keys=await _remember_keys(engine, redis), standing_revision=standing.revision)


async def _empty(redis: Redis, patience_s: float) -> None:
    for _ in range(max(1, int(patience_s / _POLL_S))):
        if await redis.eval(_EMPTY, 1, STREAM):
            return
        await asyncio.sleep(_POLL_S)
    raise EventsWaitError(
        "usage events wait in the stream, and they are nowhere else: Redis is not emptied; is a recorder at work?"
    )


async def _until_recorded(redis: Redis, patience_s: float) -> None:
    """Returns when what was in the stream at the call is in the roll-ups, from which the counts are taken."""
    newest = await redis.xrevrange(STREAM, count=1)
    for _ in range(max(1, int(patience_s / _POLL_S))):
        oldest = await redis.xrange(STREAM, count=1)
        if not newest or not oldest or _place(oldest[0][0]) > _place(newest[0][0]):
            return
        await asyncio.sleep(_POLL_S)
    raise EventsWaitError("usage events wait in the stream: counts would come out too low; is a recorder at work?")


def _place(entry_id: bytes | str | None) -> tuple[int, ...]:
    text_ = entry_id.decode() if isinstance(entry_id, bytes) else entry_id or ""
    return tuple(map(int, text_.split("-")))


async def _used(engine: AsyncEngine, day: date) -> Sequence[Used]:
    with database_errors():
        async with engine.connect() as connection:
            rows = (await connection.execute(_USED, {"day": day})).all()
    return [
        Used(customer=row.customer_id, day=day, in_day=row.in_day, in_month=row.in_month, is_test=row.is_test) for row in rows
    ]


async def _remember_keys(engine: AsyncEngine, redis: Redis) -> int:
    """So that keys go on working if PostgreSQL goes away next."""
    with database_errors():
        async with engine.connect() as connection:
            digests = [bytes(row.digest) for row in await connection.execute(_DIGESTS)]

    async def remember(digest: bytes) -> int:
        record = await look_up(engine, digest)
        if record is None:
            return 0
        await known_keys.remember(redis, digest, record)
        return 1

    groups = [digests[at : at + _KEYS_AT_ONCE] for at in range(0, len(digests), _KEYS_AT_ONCE)]
    return sum([sum(await asyncio.gather(*map(remember, group))) for group in groups])
