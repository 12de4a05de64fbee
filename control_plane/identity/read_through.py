"""A key's record from Redis, else from PostgreSQL, and for how long it may be believed. Fails closed.

A record is believed for `cache_s` counted from when it was read from PostgreSQL, wherever copies of it lie, so a change that
nobody announced (Redis was away) is noticed within `cache_s`. With PostgreSQL away, a record of the last hour is better than
none: the key goes on working; of any other key it cannot be said whether it exists. Called by `Authenticator`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.breaker import Breaker
from control_plane.db import DatabaseAwayError
from control_plane.identity import known_keys
from control_plane.identity.lookup import look_up
from control_plane.identity.record import KeyRecord
from control_plane.redis import REDIS_AWAY


class Source(StrEnum):
    """Where an answer came from: a label of `vla_auth_total`."""

    NONE = "none"  # no store was needed, or none could say
    PROCESS = "process"
    REDIS = "redis"
    REDIS_STALE = "redis_stale"  # older than `cache_s`, used because PostgreSQL is away
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a store said. `record` None: there is no such key."""

    record: KeyRecord | None
    source: Source
    believed_for_s: float


class ReadThrough:
    """Reads records through both stores and leaves them in Redis for the other processes."""

    def __init__(
        self, *, engine: AsyncEngine, redis: Redis, cache_s: float, is_away: Callable[[int], None] | None = None
    ) -> None:
        self._engine = engine
        self._redis = redis
        self._cache_s = cache_s
        self._database = Breaker(changed=is_away)

    async def read(self, digest: bytes, *, max_age_s: float) -> Found | None:
        """What is known, read from PostgreSQL at most `max_age_s` ago if it can be had. None: it cannot be said."""
        remembered = await self._recall(digest)
        if remembered is not None and _age_s(remembered) < max_age_s:
            return self._found(remembered, Source.REDIS)
        try:
            record = await self._look_up(digest)
        except DatabaseAwayError:
            return self._stale(remembered)
        if record is None:
            return Found(record=None, source=Source.POSTGRES, believed_for_s=0)
        await self._remember(digest, record)
        return self._found(record, Source.POSTGRES)

    def _found(self, record: KeyRecord, source: Source) -> Found:
        return Found(record=record, source=source, believed_for_s=self._cache_s - _age_s(record))

    def _stale(self, remembered: KeyRecord | None) -> Found | None:
        if remembered is None:
            return None
        left_s = min(self._cache_s, known_keys.REMEMBERED_S - _age_s(remembered))
        return Found(record=remembered, source=Source.REDIS_STALE, believed_for_s=left_s) if left_s > 0 else None

    async def _look_up(self, digest: bytes) -> KeyRecord | None:
        if not self._database.may_try():
            raise DatabaseAwayError("away a moment ago")
        try:
            record = await look_up(self._engine, digest)
        except DatabaseAwayError:
            self._database.failed()
            raise
        self._database.succeeded()
        return record

    async def _recall(self, digest: bytes) -> KeyRecord | None:
        try:
            return await known_keys.recall(self._redis, digest)
        except REDIS_AWAY:
            return None

    async def _remember(self, digest: bytes, record: KeyRecord) -> None:
        try:
            await known_keys.remember(self._redis, digest, record)
        except REDIS_AWAY:
            return  # the next process reads PostgreSQL itself


def _age_s(record: KeyRecord) -> float:
    return max(0.0, time.time() - record.read_at_s)
