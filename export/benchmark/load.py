"""Who sends when. Closed loop: a client waits for its answer, then asks again. Open loop: requests start when the clock says so.

In the open loop latency counts from the *scheduled* instant, so a server that stalls is charged for the queue it caused (no
coordinated omission), and a generator that falls behind shows it as lag. Knows nothing of what a request is.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np

from export.benchmark.failure import GeneratorOverrun

PAUSE_AFTER_REFUSAL_S = 0.01  # a client that is refused and asks again at once would only measure itself
MAX_IN_FLIGHT = 2048


class Answer(NamedTuple):
    """Instants of one request, seconds of `time.perf_counter`; `refusal` says why there was no answer."""

    sent_s: float  # we began
    handed_s: float  # gRPC had it
    answered_s: float  # the answer's bytes were there
    done_s: float  # and read
    refusal: str | None


class Sample(NamedTuple):
    """One request that ended, and when it should have begun."""

    scheduled_s: float
    answer: Answer

    @property
    def latency_s(self) -> float:
        """As the caller who wanted it at the scheduled instant saw it."""
        return self.answer.done_s - self.scheduled_s

    @property
    def lag_s(self) -> float:
        """How late we sent it."""
        return self.answer.sent_s - self.scheduled_s


Send = Callable[[], Awaitable[Answer]]
Record = Callable[[Sample], None]


class Load(Protocol):
    """Something that sends until `stop` is set, then waits for what is on its way."""

    async def run(self, record: Record, stop: asyncio.Event) -> None:
        """Raises what sending raises, in an ExceptionGroup."""


class Distribution(StrEnum):
    """How arrivals are spaced."""

    CONSTANT = "constant"
    POISSON = "poisson"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """`clients` that each keep one request on its way."""

    send: Send
    clients: int

    async def run(self, record: Record, stop: asyncio.Event) -> None:
        """Until `stop`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.clients):
                group.create_task(self._client(record, stop))

    async def _client(self, record: Record, stop: asyncio.Event) -> None:
        while not stop.is_set():
            answer = await self.send()
            record(Sample(answer.sent_s, answer))
            if answer.refusal is not None:
                await asyncio.sleep(PAUSE_AFTER_REFUSAL_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """`rate_hz` requests a second, whether or not earlier ones have been answered. The same seed gives the same arrivals."""

    send: Send
    rate_hz: float
    distribution: Distribution = Distribution.CONSTANT
    seed: int = 0

    async def run(self, record: Record, stop: asyncio.Event) -> None:
        """Until `stop`. Raises GeneratorOverrun when too many requests are unanswered."""
        unanswered: set[asyncio.Task[None]] = set()
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for offset_s in itertools.accumulate(self.gaps_s()):
                await asyncio.sleep(max(0.0, began_s + offset_s - time.perf_counter()))  # 0 lets answers in, too
                if stop.is_set():
                    return
                if len(unanswered) >= MAX_IN_FLIGHT:
                    raise GeneratorOverrun(
                        f"{MAX_IN_FLIGHT} requests are unanswered at {self.rate_hz:g} a second: the rate is too high"
                    )
                task = group.create_task(self._one(began_s + offset_s, record))
                unanswered.add(task)
                task.add_done_callback(unanswered.discard)

    def gaps_s(self) -> Iterator[float]:
        """The pause before each request, for ever."""
        if self.distribution is Distribution.CONSTANT:
            yield from itertools.repeat(1 / self.rate_hz)
        random = np.random.default_rng(self.seed)
        while True:
            yield from random.exponential(1 / self.rate_hz, 1024).tolist()

    async def _one(self, scheduled_s: float, record: Record) -> None:
        record(Sample(scheduled_s, await self.send()))
