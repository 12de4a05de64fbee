"""The journal: makes a usage event durable before its answer leaves, in the Redis stream or else in the local spool.

The event goes out in one round trip together with the limiter's commands. When Redis is away, refuses, or may or may not have
taken it (a time-out after sending), the same bytes go to the spool: twice the same id is one row. If the spool fails too, the
caller gets `journal_unavailable` and must give no answer: it fails closed.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError
from control_plane.metrics import Metrics
from control_plane.redis import Commands
from control_plane.tallies import Counts
from control_plane.usage.event import UsageEvent, encode
from control_plane.usage.recent import Recent
from control_plane.usage.replay import Replay
from control_plane.usage.spool import Spool, SpoolError
from control_plane.usage.stream import add


class Journal:
    """Records events. `running_journal` makes one with all that must run beside it."""

    def __init__(self, *, redis: Redis, spool: Spool, recent: Recent, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._redis = redis
        self._spool = spool
        self._recent = recent
        self._log = log
        self._is_spooling = False
        writes = Counts(metrics.journal_writes, metrics.tallies)
        self._in_stream = writes["stream",]
        self._in_spool = writes["spool",]
        self._nowhere = writes["none",]

    async def record(self, event: UsageEvent, *, together_with: Commands | None = None) -> None:
        """Returns when the event is durable. Raises ApiError("journal_unavailable") when nothing would take it.

        `together_with` is sent in the same round trip but is not part of the promise: if only those commands fail, the event is
        recorded and they are logged; if only the event fails, they stand and the event goes to the spool. They are not repeated.
        """
        payload = encode(event)
        refusal = await self._stream(payload, together_with)
        self._tell(refusal)
        if refusal is None:
            self._recent.note(payload)
            self._in_stream.inc()
            return
        try:
            await self._spool.append(payload)
        except SpoolError as error:
            self._nowhere.inc()
            self._log.error("usage event could not be recorded", request_id=str(event.request_id), error=str(error))
            raise ApiError("journal_unavailable") from error
        self._in_spool.inc()

    async def _stream(self, payload: bytes, together_with: Commands | None) -> Exception | None:
        """None when the event is in the stream, else why it is not known to be."""
        pipeline = self._redis.pipeline(transaction=False)  # each command for itself: a failed one takes no other with it
        add(pipeline, payload)
        if together_with is not None:
            together_with(pipeline)
        try:
            added, *others = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            return error
        for answer in others:
            if isinstance(answer, Exception):
                self._log.warning("commands beside a usage event failed", error=str(answer))
        return added if isinstance(added, Exception) else None

    def _tell(self, refusal: Exception | None) -> None:
        """Logs when events begin to go to the spool and when that ends, not each of them."""
        if (refusal is not None) == self._is_spooling:
            return
        self._is_spooling = refusal is not None
        if refusal is None:
            self._log.info("usage events go to the stream again")
        else:
            self._log.warning("usage events go to the spool", error=type(refusal).__name__, detail=str(refusal))


@asynccontextmanager
async def running_journal(
    *, redis: Redis, spool_dir: Path, metrics: Metrics, log: FilteringBoundLogger
) -> AsyncIterator[Journal]:
    """An API process's journal, with its spool and replay. Raises SpoolError when the spool cannot be written."""
    spool, recent = Spool(spool_dir), Recent()
    await spool.start()
    replay = Replay(redis=redis, spool=spool, recent=recent, metrics=metrics, log=log)
    await replay.start()
    try:
        yield Journal(redis=redis, spool=spool, recent=recent, metrics=metrics, log=log)
    finally:
        await replay.stop()
        await spool.close()
