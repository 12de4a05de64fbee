"""Moves spooled usage events back into the stream when Redis is there again: our own, and those of dead processes.

A segment is removed only after all its events were added; being interrupted adds some of them twice, which the recorder takes for
one. Started and stopped by the composition roots; any number of processes may share a folder.
"""

import asyncio
import contextlib
from functools import partial
from itertools import islice
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics
from control_plane.usage.segment import claim, segments
from control_plane.usage.spool import Spool, SpoolError
from control_plane.usage.stream import add

EVERY_S = 1.0
_EVENTS_AT_ONCE = 500


class Replay:
    """One process's watch over the spool folder."""

    def __init__(self, *, redis: Redis, spool: Spool, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._redis = redis
        self._spool = spool
        self._metrics = metrics
        self._log = log
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins watching in the background."""
        self._task = asyncio.create_task(self._watch(), name="spool replay")

    async def stop(self) -> None:
        """Ends it. What is not moved yet stays on disk for the next process."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        is_waiting = False
        while True:
            try:
                await self.step()
                is_waiting = False
            except (RedisError, OSError, SpoolError) as error:
                if not is_waiting:  # once per outage, not once a second
                    self._log.warning("spooled usage events wait", error=type(error).__name__, detail=str(error))
                is_waiting = True
            await asyncio.sleep(EVERY_S)

    async def step(self) -> int:
        """Moves what waits; returns how many events were added. Raises RedisError, OSError or SpoolError: the rest waits."""
        self._metrics.spool_events.set(await self._spool.count_waiting())
        if not await self._spool.in_thread(self._segments):
            return 0
        await self._redis.ping()  # before sealing: else an outage would leave one small file a second
        await self._spool.seal()
        moved = 0
        for path in await self._spool.in_thread(self._segments):
            moved += await self._move(path)
        self._metrics.spool_events.set(await self._spool.count_waiting())
        return moved

    def _segments(self) -> list[Path]:
        return segments(self._spool.folder)

    async def _move(self, path: Path) -> int:
        segment = await self._spool.in_thread(partial(claim, path))
        if segment is None:  # a living process writes or moves it
            return 0
        moved = 0
        try:
            payloads = segment.payloads()
            while chunk := await self._spool.in_thread(lambda: list(islice(payloads, _EVENTS_AT_ONCE))):
                await self._add(chunk)
                moved += len(chunk)
            await self._spool.in_thread(segment.discard)
        finally:
            segment.close()
        self._log.info("spooled usage events moved to the stream", events=moved, segment=path.name)
        return moved

    async def _add(self, payloads: list[bytes]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for payload in payloads:
            add(pipeline, payload)
        await pipeline.execute()
