"""Spend caps: how the count of what may become billable is begun, from what is recorded elsewhere. Fails closed.

`admit.lua` keeps the count; it asks for a beginning once a month, and whenever another Redis process answers, because a killed
one may have forgotten what it had counted. Whoever cannot be counted is not admitted. Knows no store: `Count` is given.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from control_plane.db import DatabaseAwayError
from control_plane.errors import ApiError
from control_plane.metrics import Metrics
from control_plane.redis import REDIS_AWAY

_RETRY_AFTER_MS = 1000


class Count(Protocol):
    """How many requests of one UTC month (year * 12 + month - 1) are billable, or in flight and may become so."""

    async def __call__(self, customer_id: UUID, month: int, leases: Sequence[bytes]) -> int:
        """`leases` are ids of requests in flight, read before. Raises DatabaseAwayError or one of REDIS_AWAY."""


class ReadLeases(Protocol):
    """The ids of a customer's requests in flight."""

    async def __call__(self) -> Sequence[bytes]:
        """Raises one of REDIS_AWAY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A beginning: good for that Redis process only."""

    used: int
    run: bytes


@dataclass(slots=True)
class _Counting:
    """A count and how many requests are about to begin with it."""

    task: asyncio.Task[int]
    users: int = 0


class Spending:
    """One per process. Many requests may need one customer's beginning at the same moment: one counts."""

    def __init__(self, *, count: Count, metrics: Metrics) -> None:
        self._count = count
        self._metrics = metrics
        self._counting: dict[tuple[UUID, int, bytes], _Counting] = {}

    @asynccontextmanager
    async def begin(self, customer_id: UUID, month: int, run: bytes, leases: ReadLeases) -> AsyncIterator[Begun]:
        """Take it to Redis inside the block. Raises ApiError `spend_unknown` when it cannot be counted.

        Who asked before Redis had it, and hears so only now, begins with the same count, until the first has begun with it.
        """
        key = (customer_id, month, run)
        counting = self._counting.get(key)
        if counting is None:
            counting = _Counting(asyncio.create_task(self._counted(customer_id, month, leases)))
            self._counting[key] = counting
        counting.users += 1
        try:
            yield Begun(used=await self._known(counting.task), run=run)
        finally:
            counting.users -= 1
            is_over = counting.task.done() or counting.users == 0
            if is_over and self._counting.get(key) is counting:
                del self._counting[key]

    async def _known(self, task: asyncio.Task[int]) -> int:
        try:
            return await asyncio.shield(task)
        except (DatabaseAwayError, *REDIS_AWAY):
            raise unknown(self._metrics) from None

    async def _counted(self, customer_id: UUID, month: int, leases: ReadLeases) -> int:
        """In this order: a request goes from flight to stream to table, so that it is seen at least once."""
        used = await self._count(customer_id, month, await leases())
        self._metrics.spend_counts.labels("counted").inc()
        return used


def unknown(metrics: Metrics, *, retry_after_ms: int = _RETRY_AFTER_MS) -> ApiError:
    """For a customer with a spend cap while nobody can say what is spent."""
    metrics.spend_counts.labels("unknown").inc()
    return ApiError("spend_unknown", retry_after_ms=retry_after_ms)
