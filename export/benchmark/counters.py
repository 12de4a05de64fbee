"""Triton's own statistics of one model, as what happened between two readings: the server's half of a latency, and batch sizes.

The counters run from Triton's start and count every caller, so a reading is of use only beside another. It sends nothing itself.
"""

from dataclasses import dataclass
from typing import Any

US_PER_NS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """One reading; times in nanoseconds, summed over requests. `batches` is executions by batch size."""

    requests: int
    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    inferences: int
    executions: int
    batches: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Between two readings: averages per request in microseconds, and how requests were joined."""

    requests: int
    queue_us: float
    compute_input_us: float
    compute_infer_us: float
    compute_output_us: float
    inferences: int
    executions: int
    batches: dict[int, int]

    @property
    def inside_us(self) -> float:
        """All that Triton accounts for."""
        return self.queue_us + self.compute_input_us + self.compute_infer_us + self.compute_output_us


def counters_of(statistics: Any) -> Counters:
    """From one entry of Triton's `ModelStatistics` answer."""
    found = statistics.inference_stats
    return Counters(
        requests=found.success.count,
        queue_ns=found.queue.ns,
        compute_input_ns=found.compute_input.ns,
        compute_infer_ns=found.compute_infer.ns,
        compute_output_ns=found.compute_output.ns,
        inferences=statistics.inference_count,
        executions=statistics.execution_count,
        batches={one.batch_size: one.compute_infer.count for one in statistics.batch_stats},
    )


def between(before: Counters, after: Counters) -> Server:
    """What happened from `before` to `after`; zeros where nothing did."""
    requests = after.requests - before.requests
    per_request = US_PER_NS / max(1, requests)
    grown = {size: count - before.batches.get(size, 0) for size, count in sorted(after.batches.items())}
    return Server(
        requests=requests,
        queue_us=(after.queue_ns - before.queue_ns) * per_request,
        compute_input_us=(after.compute_input_ns - before.compute_input_ns) * per_request,
        compute_infer_us=(after.compute_infer_ns - before.compute_infer_ns) * per_request,
        compute_output_us=(after.compute_output_ns - before.compute_output_ns) * per_request,
        inferences=after.inferences - before.inferences,
        executions=after.executions - before.executions,
        batches={size: count for size, count in grown.items() if count},
    )
