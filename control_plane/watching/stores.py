"""Are the stores there, and have they room? Looked at from where their users are, so every installation is watched alike.

That a store is away is what these gauges say, never an error of the look. Run by the worker; knows no table.
"""

import asyncio
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import DatabaseAwayError, database_errors
from control_plane.metrics import WatchMetrics
from control_plane.objects import ObjectStore, ObjectStoreAwayError
from control_plane.redis import REDIS_AWAY

# Its last attempt failed: since the last one that did not. A server that archives nothing has nothing that fails.
_ARCHIVE_STALLED_S = """
    SELECT CASE WHEN current_setting('archive_mode') <> 'off' AND last_failed_time > coalesce(last_archived_time, '-infinity')
                THEN extract(epoch FROM clock_timestamp() - coalesce(last_archived_time, stats_reset, last_failed_time))
                ELSE 0 END::float
    FROM pg_stat_archiver
"""
_LOOK_PREFIX = "vla-look/"  # a short listing; nothing lies there


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreWatch:
    """PostgreSQL and Redis."""

    engine: AsyncEngine
    redis: Redis
    metrics: WatchMetrics

    async def step(self) -> None:
        """One look at both. Never raises for one that is away."""
        postgres, redis = await asyncio.gather(self._postgres(), self._redis())
        self.metrics.store_up.labels("postgres").set(postgres)
        self.metrics.store_up.labels("redis").set(redis)
        self.metrics.worker_at.set(time.time())

    async def _postgres(self) -> bool:
        try:
            with database_errors():
                async with self.engine.connect() as connection:
                    self.metrics.log_archive_stalled.set(await connection.scalar(text(_ARCHIVE_STALLED_S)) or 0.0)
        except DatabaseAwayError:
            return False
        return True

    async def _redis(self) -> bool:
        try:
            memory = await self.redis.info("memory")
        except REDIS_AWAY:
            return False
        most = memory["maxmemory"]
        self.metrics.redis_memory.set(memory["used_memory"] / most if most else 0)
        return True


async def look_at_disk(spool_dir: Path, metrics: WatchMetrics) -> None:
    """How full the disk of the spool is. No step of StoreWatch: on Kubernetes it is done where the spools are, in API pods."""
    with suppress(FileNotFoundError):
        disk = await asyncio.to_thread(shutil.disk_usage, spool_dir)
        metrics.spool_disk_used.set(1 - disk.free / (disk.used + disk.free))  # as df says: what root keeps is not room


async def look_at_objects(objects: ObjectStore, metrics: WatchMetrics) -> None:
    """Sets whether the object store answers. Never raises for its being away."""
    try:
        await objects.find(_LOOK_PREFIX)
        metrics.store_up.labels("objects").set(1)
    except ObjectStoreAwayError:
        metrics.store_up.labels("objects").set(0)
