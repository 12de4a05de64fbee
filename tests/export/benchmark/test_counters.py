"""Triton's counters as what happened between two readings."""

import pytest
from tritonclient.grpc import service_pb2

from export.benchmark.counters import Counters, between, counters_of


def _reading(**changes: int | dict[int, int]) -> Counters:
    values: dict[str, int | dict[int, int]] = {
        "requests": 100,
        "queue_ns": 10_000_000,
        "compute_input_ns": 1_000_000,
        "compute_infer_ns": 200_000_000,
        "compute_output_ns": 2_000_000,
        "inferences": 100,
        "executions": 60,
        "batches": {1: 40, 3: 20},
    }
    return Counters(**(values | changes))  # type: ignore[arg-type]  # a table of defaults


def test_averages_are_per_request_of_the_time_between() -> None:
    after = _reading(requests=150, queue_ns=15_000_000, compute_infer_ns=300_000_000, inferences=150, executions=70)
    found = between(_reading(), after)
    assert (found.requests, found.inferences, found.executions) == (50, 50, 10)
    assert [found.queue_us, found.compute_infer_us] == pytest.approx([100, 2000])
    assert found.inside_us == pytest.approx(2100)


def test_batch_sizes_are_those_of_the_time_between() -> None:
    assert between(_reading(), _reading(batches={1: 40, 2: 7, 3: 25})).batches == {2: 7, 3: 5}


def test_nothing_happened() -> None:
    assert between(_reading(), _reading()).inside_us == 0


def test_a_reading_is_what_triton_says() -> None:
    answer = service_pb2.ModelStatistics(inference_count=9, execution_count=4)
    answer.inference_stats.success.count = 8
    answer.inference_stats.queue.ns = 77
    answer.batch_stats.add(batch_size=2).compute_infer.count = 3
    found = counters_of(answer)
    assert (found.requests, found.queue_ns, found.inferences, found.executions, found.batches) == (8, 77, 9, 4, {2: 3})
