"""Windows of one load, until throughput and latency of three in a row agree or the trials are used up; then it says so.

The load runs through: a first stretch that is thrown away, then window after window, cut where Triton's counters are read. Knows
neither Triton nor how the load sends.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from export.benchmark.figures import Window, merged
from export.benchmark.load import Load, Sample

_Counters = TypeVar("_Counters")
AGREEING = 3
DRAIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """perf_analyzer's `--measurement-interval`, `--stability-percentage` and `--max-trials`."""

    interval_s: float = 5.0
    stability: float = 0.10  # a share of the mean of the three windows
    max_trials: int = 10
    warmup_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Generic[_Counters]):
    """The last three windows as one, the server's counters at their edges, and whether they agreed."""

    window: Window
    windows: tuple[Window, ...]  # all of them
    before: _Counters
    after: _Counters
    trials: int
    is_stable: bool


@dataclass(frozen=True, slots=True)
class _Cut(Generic[_Counters]):
    """An edge between two windows."""

    at_s: float
    count: int
    cpu_s: float
    counters: _Counters


async def measure(
    load: Load, trials: Trials, read: Callable[[], Awaitable[_Counters]], tell: Callable[[int], None]
) -> Measured[_Counters]:
    """Runs `load` until it is stable or `max_trials` is reached; `tell` hears of each window. Raises what the load raises."""
    samples: list[Sample] = []
    stop = asyncio.Event()
    task = asyncio.create_task(load.run(samples.append, stop))
    try:
        await _pass(task, trials.warmup_s)
        cuts = [await _cut(samples, read)]
        windows: list[Window] = []
        while not is_stable(windows, trials.stability) and len(windows) < trials.max_trials:
            await _pass(task, trials.interval_s)
            cuts.append(await _cut(samples, read))
            windows.append(_between(samples, cuts[-2], cuts[-1]))
            tell(len(windows))
    finally:
        stop.set()
        await _end(task)
    last = windows[-AGREEING:]
    return Measured(
        window=merged(last),
        windows=tuple(windows),
        before=cuts[-len(last) - 1].counters,
        after=cuts[-1].counters,
        trials=len(windows),
        is_stable=is_stable(windows, trials.stability),
    )


def is_stable(windows: Sequence[Window], share: float) -> bool:
    """Whether throughput and average latency of the last three windows are each within ±`share` of their mean."""
    last = windows[-AGREEING:]
    if len(last) < AGREEING or not all(window.answered for window in last):
        return False
    rates = [len(window.answered) / window.duration_s for window in last]
    latencies = [sum(sample.latency_s for sample in window.answered) / len(window.answered) for window in last]
    return all(_agree(values, share) for values in (rates, latencies))


def _agree(values: Sequence[float], share: float) -> bool:
    mean = sum(values) / len(values)
    return all(abs(value - mean) <= share * mean for value in values)


async def _cut(samples: list[Sample], read: Callable[[], Awaitable[_Counters]]) -> _Cut[_Counters]:
    counters = await read()
    return _Cut(time.perf_counter(), len(samples), time.process_time(), counters)


def _between(samples: list[Sample], start: _Cut[_Counters], end: _Cut[_Counters]) -> Window:
    return Window(
        duration_s=end.at_s - start.at_s, samples=samples[start.count : end.count], client_cpu_s=end.cpu_s - start.cpu_s
    )


async def _pass(task: asyncio.Task[None], seconds: float) -> None:
    """Waits, unless the load fails meanwhile; then raises the first thing that went wrong."""
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if done:
        try:
            task.result()
        except ExceptionGroup as group:
            raise first_of(group) from None


async def _end(task: asyncio.Task[None]) -> None:
    """Lets what is on its way arrive, then insists. What fails now was never going to be counted."""
    _, late = await asyncio.wait({task}, timeout=DRAIN_S)
    for one in late:
        one.cancel()
    with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):
        await task


def first_of(group: ExceptionGroup[Exception]) -> Exception:
    """The first plain exception in nested groups."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, ExceptionGroup) else first
