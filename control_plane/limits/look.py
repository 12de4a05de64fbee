"""Where a customer stands with their limits, looked at without spending anything: what `admit.lua` keeps, read in one round trip.

A test holds it equal to what an admission says. Knows no HTTP. Raises one of REDIS_AWAY.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from control_plane.identity.principal import Principal
from control_plane.limits.bucket import Bucket
from control_plane.limits.local_share import MINUTE_US

_DAY_S = 86_400
_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """One limit at one moment; `limit` None is unlimited. `resets_at`: when all of it is there again."""

    limit: int | None
    used: int
    resets_at: datetime | None

    @property
    def remaining(self) -> int | None:
        """What is left."""
        return None if self.limit is None else max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All limits of a customer (of test keys, for a test key)."""

    minute: Used
    day: Used
    month: Used
    concurrency: Used


async def look(redis: Redis, principal: Principal) -> Look:
    """One round trip; nothing is counted."""
    customer, kind = principal.customer_id.hex, ":test" if principal.is_test else ""
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    pipeline.hmget(f"vla:limits:{{{customer}}}{kind}", "drained_at", "day", "day_used", "month", "month_used")
    pipeline.zrange(f"vla:leases:{{{customer}}}{kind}", 0, -1, withscores=True)
    (now_s, us), kept, leases = await pipeline.execute()
    now = datetime.fromtimestamp(now_s, UTC)
    drained_at, day, day_used, month, month_used = (0 if value is None else int(float(value)) for value in kept)
    limits, now_ms = principal.limits, now_s * 1000 + us // 1000
    level_us = max(0, drained_at - now_s * _US - us)
    bucket = Bucket(limits.per_minute, MINUTE_US, level_us)
    is_today, is_this_month = day == now_s // _DAY_S, month == now.year * 12 + now.month - 1
    tomorrow = now.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    first = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0)
    return Look(
        minute=Used(
            limit=limits.per_minute,
            used=limits.per_minute - bucket.remaining,
            resets_at=now + timedelta(microseconds=us + level_us),
        ),
        day=Used(limit=limits.per_day, used=day_used if is_today else 0, resets_at=tomorrow),
        month=Used(limit=limits.per_month, used=month_used if is_this_month else 0, resets_at=first),
        concurrency=Used(limit=limits.concurrency, used=sum(ends_ms > now_ms for _, ends_ms in leases), resets_at=None),
    )
