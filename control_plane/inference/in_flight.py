"""How many requests this process works on at once; beyond that it sheds load.

A place is taken once the request is understood, so that slow bodies and wrong keys cannot hold one; while all are taken, requests
are turned away before their body is read. The last eighth is for customers who hold few, so that bursts of others do not shut
them out. Bodies that are still arriving are bounded per customer, because they hold memory.
"""

from collections.abc import Callable
from uuid import UUID

from control_plane.errors import ApiError
from control_plane.tallies import Count

_Counts = dict[int, int]  # by customer; as a number, because a UUID works its hash out anew at each look


class InFlight:
    """Counts places. `gauge` is of `vla_in_flight_requests`."""

    def __init__(self, *, limit: int, gauge: Count) -> None:
        self._limit = limit
        self._gauge = gauge
        self._kept = limit // 8  # places that only customers with fewer than `_few` in hand may take
        self._few = max(1, limit // 16)
        self._taken = 0
        self._held: _Counts = {}
        self._reading: _Counts = {}

    def shed(self) -> None:
        """Raises `overloaded` when all places are taken."""
        if self._taken >= self._limit:
            raise ApiError("overloaded", retry_after_ms=250)

    def reading(self, customer_id: UUID, most: int) -> "_Taken":
        """While one body of this customer arrives. Raises `concurrency_limit` when `most` of theirs are arriving already."""
        customer = customer_id.int
        if self._reading.get(customer, 0) >= most:
            raise ApiError("concurrency_limit", retry_after_ms=100)
        _take(self._reading, customer)
        return _Taken(self._read, customer)

    def place(self, customer_id: UUID, most: int) -> "_Taken":
        """A place for one request. Raises `overloaded` when there is none for this customer, `concurrency_limit` at `most`."""
        self.shed()
        customer = customer_id.int
        held = self._held.get(customer, 0)
        if held >= most:
            raise ApiError("concurrency_limit", retry_after_ms=100)
        if self._taken >= self._limit - self._kept and held >= self._few:
            raise ApiError("overloaded", retry_after_ms=250)
        self._taken += 1
        _take(self._held, customer)
        self._gauge.inc()
        return _Taken(self._leave, customer)

    def _read(self, customer: int) -> None:
        _free(self._reading, customer)

    def _leave(self, customer: int) -> None:
        self._taken -= 1
        _free(self._held, customer)
        self._gauge.dec()


class _Taken:
    """What is held until the end of a `with`; to be entered at once."""

    __slots__ = ("_customer", "_free")

    def __init__(self, free: Callable[[int], None], customer: int) -> None:
        self._free = free
        self._customer = customer

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._free(self._customer)


def _take(counts: _Counts, customer: int) -> None:
    counts[customer] = counts.get(customer, 0) + 1


def _free(counts: _Counts, customer: int) -> None:
    left = counts.pop(customer) - 1
    if left:
        counts[customer] = left
