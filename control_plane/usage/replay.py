"""Brings usage events back into the stream: spooled ones when Redis is there again, and acknowledged ones that Redis forgot.

A segment (ours, or a dead process's) is removed only when Redis has had the time to write its events; so are the events noted in
`recent` let go. Whenever another Redis process answers, all of that is added again. Whatever comes twice is one row. Started and
stopped by the composition roots; any number of processes may share a folder.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from time import monotonic

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics
from control_plane.usage.recent import WRITTEN_WITHIN_S, Recent
from control_plane.usage.segment import ClaimedSegment, claim, segments
from control_plane.usage.spool import Spool, SpoolError
from control_plane.usage.stream import add

EVERY_S = 1.0
_EVENTS_AT_ONCE = 20  # they go before customers' requests on the same connection: 500 cost each of those 6 ms, 20 nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """A segment whose events were all acknowledged, at `at` on the monotonic clock; still locked by us."""

    segment: ClaimedSegment
    at: float


class Replay:
    """One process's watch over the spool folder and over its own recent events."""

    def __init__(self, *, redis: Redis, spool: Spool, recent: Recent, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._redis = redis
        self._spool = spool
        self._recent = recent
        self._metrics = metrics
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._run_id: str | None = None  # of the Redis process that answered last
        self._moved: list[_Moved] = []

    async def start(self) -> None:
        """Begins watching in the background."""
        with contextlib.suppress(RedisError, OSError):  # unknown is taken for another process: harmless
            self._run_id = await self._answering_process()
        self._task = asyncio.create_task(self._watch(), name="usage replay")

    async def stop(self) -> None:
        """Ends it. What is not safe yet stays on disk for the next process."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._release()

    async def step(self) -> int:
        """Moves what waits; returns how many events came from files. Raises RedisError, OSError or SpoolError: the rest waits."""
        has_files = await self._look()
        if not self._recent and not has_files:
            return 0
        asked_at = monotonic()
        run_id = await self._answering_process()  # before sealing: else an outage would leave one small file a second
        if run_id == self._run_id:
            await self._let_go(asked_at - WRITTEN_WITHIN_S)
        else:
            await self._add_again(run_id)
        if not has_files:  # whatever is spooled from here on is for the next look
            return 0
        await self._spool.seal()
        moved = sum([await self._move(path) for path in await self._spool.in_thread(self._segments)])
        await self._look()
        return moved

    async def _look(self) -> bool:
        """Whether there is any file; one without events has to be removed too."""
        files, events = await self._spool.waiting()
        self._metrics.spool_events.set(events)
        return files > 0

    async def _watch(self) -> None:
        is_waiting = False
        while True:
            try:
                await self.step()
                is_waiting = False
            except (RedisError, OSError, SpoolError) as error:
                if not is_waiting:  # once per outage, not once a second
                    self._log.warning("usage events wait to be replayed", error=type(error).__name__, detail=str(error))
                is_waiting = True
            await asyncio.sleep(EVERY_S)

    async def _answering_process(self) -> str:
        run_id: str = (await self._redis.info("server"))["run_id"]
        return run_id

    async def _let_go(self, before: float) -> None:
        """The same process still answers: what it acknowledged before then is in its file."""
        self._recent.forget_before(before)
        for moved in [moved for moved in self._moved if moved.at < before]:
            await self._spool.in_thread(moved.segment.discard)
            moved.segment.close()
            self._moved.remove(moved)

    async def _add_again(self, run_id: str) -> None:
        """Another process answers: it may lack what the last one acknowledged. Moved segments are unlocked, to be moved again."""
        self._release()
        payloads = self._recent.take_all()
        for payload in payloads:
            self._recent.note(payload)
        for start in range(0, len(payloads), _EVENTS_AT_ONCE):
            await self._add(payloads[start : start + _EVENTS_AT_ONCE])
        if payloads and self._run_id is not None:
            self._log.warning("another Redis answers: recent usage events added again", events=len(payloads))
        self._run_id = run_id

    def _release(self) -> None:
        for moved in self._moved:
            moved.segment.close()
        self._moved.clear()

    def _segments(self) -> list[Path]:
        return segments(self._spool.folder)

    async def _move(self, path: Path) -> int:
        segment = await self._spool.in_thread(partial(claim, path))
        if segment is None:  # a living process writes or moves it
            return 0
        with contextlib.ExitStack() as undo:
            undo.callback(segment.close)
            count = await self._add_all(segment)
            undo.pop_all()
        self._moved.append(_Moved(segment=segment, at=monotonic()))
        self._log.info("spooled usage events moved to the stream", events=count, segment=path.name)
        return count

    async def _add_all(self, segment: ClaimedSegment) -> int:
        count, payloads = 0, segment.payloads()
        while chunk := await self._spool.in_thread(lambda: list(islice(payloads, _EVENTS_AT_ONCE))):
            await self._add(chunk)
            count += len(chunk)
        return count

    async def _add(self, payloads: list[bytes]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for payload in payloads:
            add(pipeline, payload)
        await pipeline.execute()
