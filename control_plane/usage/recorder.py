"""The recorder: takes usage events from the stream and makes each exactly one row, whatever is killed in between.

Read → take in (one transaction) → acknowledge. Nothing is acknowledged before its commit, and taking an event in twice changes
nothing, so every failure has the same cure: read again what is still pending. Several recorders share the work. Run by the
worker; knows no HTTP and no SQL.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import asyncpg
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics
from control_plane.usage.inference_logs import Outcome
from control_plane.usage.intake import Intake
from control_plane.usage.rhythm import pause
from control_plane.usage.stream import Consumer, Delivery

Connect = Callable[[], Awaitable["asyncpg.Connection"]]

# What waiting cures: the server is away, shutting down, full, busy or misconfigured. No event is to blame.
# InternalClientError: asyncpg's state after a server that was killed in the middle of a COPY; a new connection cures it.
STORES_AWAY = (RedisError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How the recorder works. Claiming idles longer than any transaction lasts; claiming too early is harmless, only wasteful."""

    batch_rows: int = 1000
    block_ms: int = 500
    linger_s: float = 0.2  # after a batch that was not full: lets entries gather instead of one transaction each
    claim_idle_ms: int = 10_000
    claim_every_s: float = 5.0
    forget_consumers_ms: int = 3_600_000
    longest_backoff_s: float = 5.0


class Recorder:
    """One consumer of the stream with one database connection of its own."""

    def __init__(self, *, consumer: Consumer, connect: Connect, metrics: Metrics, log: FilteringBoundLogger, pace: Pace) -> None:
        self._consumer = consumer
        self._connect = connect
        self._metrics = metrics
        self._pace = pace
        self._log = log
        self._connection: asyncpg.Connection | None = None
        self._intake = Intake()
        self._has_pending = False
        self._claim_at = 0.0
        self._failures = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Records until `stop`; the batch under way is finished and acknowledged."""
        try:
            while not stop.is_set():
                try:
                    is_full = await self._turn()
                except STORES_AWAY as error:
                    await self._wait_after(error, stop)
                else:
                    self._failures = 0
                    if not is_full:
                        await pause(stop, self._pace.linger_s)
        finally:
            await self._disconnect()

    async def _turn(self) -> bool:
        """One batch. True when more is likely to be waiting."""
        if monotonic() >= self._claim_at:
            await self._keep_house()
        deliveries = await self._read()
        if deliveries:
            await self._record(deliveries)
            await self._consumer.acknowledge(deliveries)
        return len(deliveries) == self._pace.batch_rows or self._has_pending

    async def _keep_house(self) -> None:
        """Joins the group (again, if Redis forgot it), takes over what dead recorders left, looks at what is pending for us."""
        await self._consumer.join()
        await self._consumer.claim_abandoned(idle_ms=self._pace.claim_idle_ms)
        await self._consumer.tidy(forget_after_ms=self._pace.forget_consumers_ms)
        self._has_pending = True
        self._claim_at = monotonic() + self._pace.claim_every_s

    async def _read(self) -> list[Delivery]:
        if self._has_pending:
            pending = await self._consumer.read_pending(count=self._pace.batch_rows)
            self._has_pending = bool(pending)
            if pending:
                return pending
        return await self._consumer.read_new(count=self._pace.batch_rows, block_ms=self._pace.block_ms)

    async def _record(self, deliveries: Sequence[Delivery]) -> None:
        payloads = [delivery.payload for delivery in deliveries if delivery.payload is not None]
        outcome = await self._intake.take(await self._connected(), payloads, now=datetime.now(UTC))
        self._count(outcome)
        if outcome.newest_at is not None:
            self._metrics.recorder_lag.set(max(0.0, (datetime.now(UTC) - outcome.newest_at).total_seconds()))

    def _count(self, outcome: Outcome) -> None:
        self._metrics.recorder_rows.labels(result="recorded").inc(outcome.recorded)
        self._metrics.recorder_rows.labels(result="duplicate").inc(outcome.duplicates)
        self._metrics.recorder_rows.labels(result="dead").inc(len(outcome.dead))
        for letter in outcome.dead:
            self._metrics.dead_letters.labels(reason=letter.reason.value).inc()
            self._log.error("usage event set aside", reason=letter.reason.value, request_id=str(letter.request_id))

    async def _connected(self) -> "asyncpg.Connection":
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _wait_after(self, error: BaseException, stop: asyncio.Event) -> None:
        """Everything read and not acknowledged stays pending for us: forget it, wait, begin again with what is pending."""
        await self._disconnect()
        self._intake.forget_days()
        self._claim_at = 0.0
        self._failures += 1
        ceiling_s = min(self._pace.longest_backoff_s, 0.1 * 2 ** min(self._failures, 10))
        self._log.warning("recorder waits", error=type(error).__name__, detail=str(error), failures=self._failures)
        await pause(stop, ceiling_s * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter
