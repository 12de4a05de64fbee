"""Retention: removes episodes whose time is over, and objects that no row knows. Run hourly by each worker there is.

The bucket is read page by page, and each page is held against the rows: however much there is, little of it is in memory.
Objects go first and the row says so afterwards: killed in between, the next run removes what is left. Where an object store's own
lifecycle rules are only partly kept, this is what keeps the promise.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.capture.erase import erase_episode
from control_plane.capture.part import MANIFEST, ROOT
from control_plane.capture.tables import captured_episodes
from control_plane.db import database_errors
from control_plane.metrics import Metrics
from control_plane.objects import ObjectStore

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
        orphans = 0
        async for page in self._objects.pages(ROOT):
            keys = await self._orphans([found.key for found in page if found.changed_at < now - _ORPHAN_AGE])
            if keys:
                await self._objects.remove(keys)
            orphans += len(keys)
        self._removed.labels(why=RETENTION).inc(removed)
        self._removed.labels(why="orphan").inc(orphans)
        if removed or orphans:
            self._log.info("captured episodes removed", episodes=removed, orphans=orphans)
        return removed

    async def _due(self, now: datetime) -> Sequence[Any]:
        is_due = (captured_episodes.c.keep_until < now) & (captured_episodes.c.state != "deleted")
        query = select(captured_episodes.c.id, captured_episodes.c.prefix).where(is_due).limit(_AT_ONCE)
        with database_errors():
            async with self._engine.connect() as connection:
                return (await connection.execute(query)).all()

    async def _orphans(self, keys: Sequence[str]) -> list[str]:
        """Those that are neither a part that counts nor the manifest of an episode: left by whoever was killed in between."""
        if not keys:
            return []
        values = {"keys": list(keys), "ids": [id_ for id_ in map(_episode_of, keys) if id_ is not None], "manifest": MANIFEST}
        with database_errors():
            async with self._engine.connect() as connection:
                known = set((await connection.scalars(text(_KNOWN), values)).all())
        return [key for key in keys if key not in known]


_KNOWN = """
SELECT key FROM captured_parts WHERE key = ANY(:keys)
UNION ALL SELECT prefix || :manifest FROM captured_episodes WHERE id = ANY(:ids) AND state <> 'deleted'
"""


def _episode_of(key: str) -> UUID | None:
    """The id in a key, as `part.prefix_of` writes it."""
    try:
        return UUID(key.rpartition("/")[0].rpartition("/ep=")[2])
    except ValueError:
        return None
