"""A plain limit for what is not inference (operators, self-service, sign-ups): so many in a window, counted in Redis.

Nothing here is spent from what a customer has bought. Degrades when Redis is away: each process then counts by itself.
"""

import time
from dataclasses import dataclass, field

from cachetools import TTLCache
from redis.asyncio import Redis

from control_plane.errors import ApiError
from control_plane.redis import REDIS_AWAY

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """`limit` calls in `length_s` for each subject (an id or an address)."""

    redis: Redis
    name: str
    limit: int
    length_s: int = 60
    _alone: TTLCache[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_alone", TTLCache(_REMEMBERED, ttl=self.length_s, timer=time.monotonic))

    async def count(self, subject: str) -> None:
        """Counts one. Raises ApiError `minute_limit` with when to come back."""
        try:
            counted, left_ms = await self._count(subject)
        except REDIS_AWAY:
            counted, left_ms = self._count_alone(subject), self.length_s * 1000
        if counted > self.limit:
            told = f"At most {self.limit} of these calls in {self.length_s} s."
            raise ApiError("minute_limit", told, retry_after_ms=max(1, left_ms))

    async def _count(self, subject: str) -> tuple[int, int]:
        key = f"vla:window:{self.name}:{subject}"
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.set(key, 0, ex=self.length_s, nx=True)
        pipeline.incr(key)
        pipeline.pttl(key)
        _, counted, left_ms = await pipeline.execute()
        return counted, left_ms

    def _count_alone(self, subject: str) -> int:
        counted = self._alone.setdefault(subject, [0])
        counted[0] += 1
        return counted[0]
