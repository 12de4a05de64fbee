"""Open-loop load: requests start when the clock says so, whether or not earlier ones have been answered.

Latency counts from the *intended* start, so a server that stalls is charged for the queue it caused (no coordinated omission).
Arrivals are Poisson with a fixed seed. Knows nothing of what a request is: it is handed an async function.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came back: latencies in ms of the requests that succeeded, and how many did not."""

    rate_hz: float
    duration_s: float
    latencies_ms: NDArray[np.float64]
    failures: int

    def percentile(self, q: float) -> float:
        """The q-th percentile of latency, ms."""
        return float(np.percentile(self.latencies_ms, q))


async def drive(send: Callable[[], Awaitable[bool]], *, rate_hz: float, duration_s: float, seed: int = 0) -> Load:
    """Calls `send` at Poisson arrivals of `rate_hz` for `duration_s`; `send` answers whether it succeeded."""
    gaps = np.random.default_rng(seed).exponential(1 / rate_hz, size=int(rate_hz * duration_s))
    starts = time.perf_counter() + 0.05 + np.cumsum(gaps)
    outcomes: list[tuple[bool, float]] = []

    async def one(start: float) -> None:
        succeeded = await send()
        outcomes.append((succeeded, (time.perf_counter() - start) * 1000))

    tasks = []
    for start in starts:
        delay = start - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(one(float(start))))
    await asyncio.gather(*tasks)
    latencies = np.array([latency for succeeded, latency in outcomes if succeeded])
    return Load(rate_hz=rate_hz, duration_s=duration_s, latencies_ms=latencies, failures=len(outcomes) - len(latencies))


async def saturate(send: Callable[[], Awaitable[bool]], *, clients: int, duration_s: float) -> float:
    """Highest rate found by `clients` that each send their next request when the last is answered, requests/s."""
    until = time.perf_counter() + duration_s
    done = 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < until:
            succeeded = await send()  # awaited first: `done += await …` would lose what others counted meanwhile
            done += succeeded

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    if not done:
        raise RuntimeError("no request succeeded, so there is nothing to measure")
    return done / (time.perf_counter() - started)
