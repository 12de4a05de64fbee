"""How many requests this process works on at once; beyond that it sheds load.

A place is taken once the caller is known, so that slow bodies and wrong keys cannot hold one; while all are taken, requests are
turned away before their body is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from control_plane.errors import ApiError


class InFlight:
    """Counts places. `gauge` is `vla_in_flight_requests`."""

    def __init__(self, *, limit: int, gauge: Gauge) -> None:
        self._limit = limit
        self._gauge = gauge
        self._taken = 0

    def shed(self) -> None:
        """Raises `overloaded` when all places are taken."""
        if self._taken >= self._limit:
            raise ApiError("overloaded", retry_after_ms=250)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request. Raises `overloaded` when all are taken."""
        self.shed()
        self._taken += 1
        self._gauge.inc()
        try:
            yield
        finally:
            self._taken -= 1
            self._gauge.dec()
