"""How many requests this process works on at once; beyond that it sheds load.

A place is taken once the request is understood, so that slow bodies and wrong keys cannot hold one; while all are taken, requests
are turned away before their body is read. The last eighth is for customers who hold few, so that bursts of others do not shut
them out. Bodies that are still arriving are bounded per customer, because they hold memory.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prometheus_client import Gauge

from control_plane.errors import ApiError


class InFlight:
    """Counts places. `gauge` is `vla_in_flight_requests`."""

    def __init__(self, *, limit: int, gauge: Gauge) -> None:
        self._limit = limit
        self._gauge = gauge
        self._kept = limit // 8  # places that only customers with fewer than `_few` in hand may take
        self._few = max(1, limit // 16)
        self._taken = 0
        self._held: Counter[UUID] = Counter()
        self._reading: Counter[UUID] = Counter()

    def shed(self) -> None:
        """Raises `overloaded` when all places are taken."""
        if self._taken >= self._limit:
            raise ApiError("overloaded", retry_after_ms=250)

    @contextmanager
    def reading(self, customer_id: UUID, most: int) -> Iterator[None]:
        """While one body of this customer arrives. Raises `concurrency_limit` when `most` of theirs are arriving already."""
        if self._reading[customer_id] >= most:
            raise ApiError("concurrency_limit", retry_after_ms=100)
        self._reading[customer_id] += 1
        try:
            yield
        finally:
            self._reading[customer_id] -= 1
            if not self._reading[customer_id]:
                del self._reading[customer_id]

    @contextmanager
    def place(self, customer_id: UUID, most: int) -> Iterator[None]:
        """A place for one request. Raises `overloaded` when there is none for this customer, `concurrency_limit` at `most`."""
        self.shed()
        if self._held[customer_id] >= most:
            raise ApiError("concurrency_limit", retry_after_ms=100)
        if self._taken >= self._limit - self._kept and self._held[customer_id] >= self._few:
            raise ApiError("overloaded", retry_after_ms=250)
        self._taken += 1
        self._held[customer_id] += 1
        self._gauge.inc()
        try:
            yield
        finally:
            self._taken -= 1
            self._held[customer_id] -= 1
            if not self._held[customer_id]:
                del self._held[customer_id]
            self._gauge.dec()
