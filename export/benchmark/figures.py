"""Samples become the numbers of a level: throughput, latency and its percentiles, what the client spent. Microseconds throughout.

perf_analyzer's definitions: throughput counts what was answered in the window over the window's length, a percentile is of what
was answered. Knows no server.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.benchmark.failure import NothingAnswered
from export.benchmark.load import Sample

US = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What ended in `duration_s`, and the CPU time that this process used meanwhile."""

    duration_s: float
    samples: Sequence[Sample]
    client_cpu_s: float

    @property
    def answered(self) -> list[Sample]:
        """Those that were not refused."""
        return [sample for sample in self.samples if sample.answer.refusal is None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Microseconds from the scheduled instant to the answer read."""

    avg_us: float
    std_us: float
    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What the generator did itself. `lag_p99_us`: how late it sent; near 1 core it measures itself and not the server."""

    send_us: float
    recv_us: float
    lag_avg_us: float
    lag_p99_us: float
    cpu_us_per_request: float
    cores: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One level. `inferences_per_s` is requests × batch. `refused` is by reason."""

    requests: int
    refused: dict[str, int]
    inferences_per_s: float
    latency: Latency
    client: Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best window's throughput, and the 10th percentile of latency over all of them.

    What else runs on a machine only ever adds time, so these repeat where averages do not.
    """

    inferences_per_s: float
    p10_us: float


def best_of(windows: Sequence[Window], batch: int) -> Best:
    """Over every window of a level, settled or not. Raises NothingAnswered."""
    latencies_s = [sample.latency_s for window in windows for sample in window.answered]
    if not latencies_s:
        raise NothingAnswered("no request was answered in any window")
    return Best(
        inferences_per_s=max(len(window.answered) * batch / window.duration_s for window in windows),
        p10_us=float(np.percentile(latencies_s, 10)) * US,
    )


def merged(windows: Sequence[Window]) -> Window:
    """Several windows as one."""
    return Window(
        duration_s=sum(window.duration_s for window in windows),
        samples=[sample for window in windows for sample in window.samples],
        client_cpu_s=sum(window.client_cpu_s for window in windows),
    )


def figures_of(window: Window, batch: int) -> Figures:
    """The numbers of one window. Raises NothingAnswered."""
    answered = window.answered
    refused = Counter(sample.answer.refusal for sample in window.samples if sample.answer.refusal is not None)
    if not answered:
        raise NothingAnswered(
            f"no request was answered in {window.duration_s:.1f} s" + (f" ({dict(refused)})" if refused else "")
        )
    return Figures(
        requests=len(answered),
        refused=dict(refused),
        inferences_per_s=len(answered) * batch / window.duration_s,
        latency=_latency(answered),
        client=_client(window, answered),
    )


def _latency(answered: Sequence[Sample]) -> Latency:
    taken = np.array([sample.latency_s for sample in answered]) * US
    p50, p90, p95, p99 = (float(found) for found in np.percentile(taken, [50, 90, 95, 99]))
    return Latency(avg_us=float(taken.mean()), std_us=float(taken.std()), p50_us=p50, p90_us=p90, p95_us=p95, p99_us=p99)


def _client(window: Window, answered: Sequence[Sample]) -> Client:
    lag = np.array([sample.lag_s for sample in answered]) * US
    return Client(
        send_us=float(np.mean([sample.answer.handed_s - sample.answer.sent_s for sample in answered]) * US),
        recv_us=float(np.mean([sample.answer.done_s - sample.answer.answered_s for sample in answered]) * US),
        lag_avg_us=float(lag.mean()),
        lag_p99_us=float(np.percentile(lag, 99)),
        cpu_us_per_request=window.client_cpu_s / len(window.samples) * US,
        cores=window.client_cpu_s / window.duration_s,
    )
