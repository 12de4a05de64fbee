"""When each key was last used, to the minute: noted in memory by each request, written to PostgreSQL beside the requests.

All processes together write a key's row at most once a minute. Knows no Redis, so it goes on when Redis is away; while
PostgreSQL is away, notes wait. A killed process loses the notes of its last seconds: this is for people, not for bills.
"""

import asyncio
import logging
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import DatabaseAwayError, database_errors

_log = logging.getLogger(__name__)

EVERY_S = 15.0
_WRITE = text("""
    UPDATE api_keys AS k SET last_used_at = used.at
    FROM unnest(:ids, :ats) AS used (id, at)
    WHERE k.id = used.id AND (k.last_used_at IS NULL OR k.last_used_at <= used.at - interval '1 minute')
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("ats", type_=ARRAY(DateTime(timezone=True))))


class LastUsed:
    """One per process. `note` costs one assignment."""

    def __init__(self, *, engine: AsyncEngine, every_s: float = EVERY_S) -> None:
        self._engine = engine
        self._every_s = every_s
        self._noted_s: dict[UUID, float] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, key_id: UUID, now_s: float) -> None:
        """This key was used at that Unix time."""
        self._noted_s[key_id] = now_s

    def start(self) -> None:
        """Begins to write in the background."""
        self._task = asyncio.create_task(self._write_for_ever(), name="last used")

    async def stop(self) -> None:
        """Writes what is noted and ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.write()

    async def write(self) -> None:
        """Writes what is noted; when PostgreSQL is away it stays noted."""
        rows = sorted(self._noted_s.items())  # in one order, so that two processes cannot wait for each other
        if not rows:
            return
        values = {"ids": [key_id for key_id, _ in rows], "ats": [datetime.fromtimestamp(at_s, UTC) for _, at_s in rows]}
        try:
            with database_errors():
                async with self._engine.begin() as connection:
                    await connection.execute(_WRITE, values)
        except DatabaseAwayError as error:
            _log.warning("When keys were used waits to be written: %s", error)
            return
        for key_id, at_s in rows:
            if self._noted_s[key_id] == at_s:  # not used again meanwhile
                del self._noted_s[key_id]

    async def _write_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.write()
