"""Retention: removes episodes whose time is over, and objects that no row knows. Run hourly by each worker there is.

Objects go first and the row says so afterwards: killed in between, the next run removes what is left. Where an object store's own
lifecycle rules are only partly kept, this is what keeps the promise.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.capture.erase import erase_episode
from control_plane.capture.part import ROOT
from control_plane.capture.tables import captured_episodes
from control_plane.db import database_errors
from control_plane.metrics import Metrics
from control_plane.objects import ObjectStore, StoredObject

RETENTION = "retention"
_ORPHAN_AGE = timedelta(days=1)  # younger ones may be on their way into a row
_AT_ONCE = 200


class Sweeper:
    """One run's seams."""

    def __init__(self, *, engine: AsyncEngine, objects: ObjectStore, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._engine, self._objects, self._log = engine, objects, log
        self._removed = metrics.capture_removed

    async def step(self, *, now: datetime | None = None) -> int:
        """Returns how many episodes were removed. Raises ObjectStoreAwayError, DatabaseAwayError: the rest waits."""
        now = now or datetime.now(UTC)
        removed = 0
        while due := await self._due(now):
            for row in due:
                await erase_episode(self._engine, self._objects, row.id, row.prefix, because=RETENTION)
            removed += len(due)
        orphans = await self._orphans(now)
        if orphans:
            await self._objects.remove([found.key for found in orphans])
        self._removed.labels(why=RETENTION).inc(removed)
        self._removed.labels(why="orphan").inc(len(orphans))
        if removed or orphans:
            self._log.info("captured episodes removed", episodes=removed, orphans=len(orphans))
        return removed

    async def _due(self, now: datetime) -> Sequence[Any]:
        is_due = (captured_episodes.c.keep_until < now) & (captured_episodes.c.state != "deleted")
        query = select(captured_episodes.c.id, captured_episodes.c.prefix).where(is_due).limit(_AT_ONCE)
        with database_errors():
            async with self._engine.connect() as connection:
                return (await connection.execute(query)).all()

    async def _orphans(self, now: datetime) -> list[StoredObject]:
        """Objects below no prefix of an episode that is there: left by a process that was killed at the wrong moment."""
        found = [one for one in await self._objects.find(ROOT) if one.changed_at < now - _ORPHAN_AGE]
        by_prefix: dict[str, list[StoredObject]] = {}
        for one in found:
            by_prefix.setdefault(one.key.rpartition("/")[0] + "/", []).append(one)
        prefixes = list(by_prefix)
        query = select(captured_episodes.c.prefix).where(
            (captured_episodes.c.prefix == func.any(prefixes)) & (captured_episodes.c.state != "deleted")
        )
        with database_errors():
            async with self._engine.connect() as connection:
                there = set((await connection.scalars(query)).all()) if prefixes else set()
        return [one for prefix, objects in by_prefix.items() if prefix not in there for one in objects]
