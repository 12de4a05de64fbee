"""Counting beside Prometheus: what each request adds is summed up in memory and handed on several times a second.

prometheus_client writes every count to a mapped file, under a lock: some thirty times a request. Here a count is an addition.
A process that is killed loses what it counted since it last handed on: these are figures for graphs and alerts, nobody is
billed by them.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from threading import Lock
from typing import Protocol, TypeVar

import prometheus_client
from prometheus_client import Counter, Gauge

EVERY_S = 0.1
ALL_HANDED_ON_S = 1.5 * EVERY_S  # after that, what any process counted before is in its file

_T = TypeVar("_T", bound="Tally")


class Histogram(prometheus_client.Histogram):
    """One that takes many observations at once."""

    def edges(self) -> Sequence[float]:
        """The buckets' upper bounds, rising; the last is infinite."""
        return self._upper_bounds

    def add(self, counts: Sequence[int], total: float) -> None:
        """That many observations more in each bucket, `total` in sum."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


class Tally(Protocol):
    """What one series has yet to be told."""

    def hand_on(self) -> None:
        """Tells it. One thread counts and another may do this: neither writes what the other does."""


class Count:
    """A counter's, or a gauge's that many processes add up."""

    __slots__ = ("_handed", "_series", "_total")

    def __init__(self, series: Counter | Gauge) -> None:
        self._series = series
        self._total = self._handed = 0

    def inc(self, amount: int = 1) -> None:
        """So many more."""
        self._total += amount

    def dec(self) -> None:
        """One less, of a gauge."""
        self._total -= 1

    def hand_on(self) -> None:
        """Tells the series how many have come since the last time."""
        amount = self._total - self._handed
        if amount:
            self._handed += amount
            self._series.inc(amount)


class Distribution:
    """A histogram's."""

    __slots__ = ("_counts", "_edges", "_handed", "_handed_sum", "_series", "_sum")

    def __init__(self, series: Histogram) -> None:
        self._series = series
        self._edges = series.edges()
        self._counts = [0] * len(self._edges)
        self._handed = list(self._counts)
        self._sum = self._handed_sum = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._edges, value)] += 1
        self._sum += value

    def hand_on(self) -> None:
        """Tells the series what was observed since the last time."""
        counts, total = list(self._counts), self._sum
        if counts != self._handed:
            self._series.add([now - before for now, before in zip(counts, self._handed, strict=True)], total - self._handed_sum)
            self._handed, self._handed_sum = counts, total


class Counts(dict[tuple[str, ...], Count]):
    """A counter's tallies by the values of its labels, made when first asked for."""

    def __init__(self, metric: Counter, tallies: "Tallies") -> None:
        super().__init__()
        self._metric, self._tallies = metric, tallies

    def __missing__(self, labels: tuple[str, ...]) -> Count:
        found = self[labels] = self._tallies.count(self._metric.labels(*labels))
        return found


class Distributions(dict[tuple[str, ...], Distribution]):
    """A histogram's, in the same way."""

    def __init__(self, metric: Histogram, tallies: "Tallies") -> None:
        super().__init__()
        self._metric, self._tallies = metric, tallies

    def __missing__(self, labels: tuple[str, ...]) -> Distribution:
        found = self[labels] = self._tallies.distribution(self._metric.labels(*labels))
        return found


class Tallies:
    """All of a process's. Who counts with them keeps `handing_on` open, or only this process's registry hears of it."""

    def __init__(self) -> None:
        self._all: list[Tally] = []
        self._handing_on = Lock()

    def count(self, series: Counter | Gauge) -> Count:
        """A tally of this series; one that is asked for twice has two, which add up."""
        return self._kept(Count(series))

    def distribution(self, series: Histogram) -> Distribution:
        """The same of a histogram."""
        return self._kept(Distribution(series))

    def _kept(self, tally: _T) -> _T:
        self._all.append(tally)
        return tally

    def hand_on(self) -> None:
        """Tells every series what it has yet to be told. From any thread."""
        with self._handing_on:
            for tally in self._all:
                tally.hand_on()

    @asynccontextmanager
    async def handing_on(self) -> AsyncIterator[None]:
        """While open it happens every EVERY_S seconds, and once more at the end."""
        task = asyncio.create_task(self._for_ever(), name="tallies")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.hand_on()

    async def _for_ever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            self.hand_on()
