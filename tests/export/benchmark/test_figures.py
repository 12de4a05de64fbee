"""What is computed from samples: throughput, percentiles, refusals, what the client itself spent."""

import numpy as np
import pytest

from export.benchmark.failure import NothingAnswered
from export.benchmark.figures import Window, best_of, figures_of, merged
from tests.export.benchmark.making import sample, window


def test_percentiles_are_those_of_the_answered_requests() -> None:
    latencies = [milliseconds / 1000 for milliseconds in range(1, 101)]
    found = figures_of(window(latencies, refused=5), 1).latency
    assert [found.p50_us, found.p99_us] == pytest.approx([50_500, 99_010])
    assert found.p90_us == pytest.approx(np.percentile(latencies, 90) * 1e6)
    assert found.avg_us == pytest.approx(50_500)


def test_throughput_counts_examples_and_not_requests() -> None:
    assert figures_of(window([0.01] * 30, duration_s=2.0), 4).inferences_per_s == pytest.approx(60.0)


def test_what_was_refused_is_counted_by_reason_and_is_no_answer() -> None:
    found = figures_of(window([0.01] * 3, refused=2), 1)
    assert (found.requests, found.refused) == (3, {"queue full": 2})


def test_lag_is_part_of_the_latency_and_told_apart() -> None:
    late = Window(duration_s=1.0, samples=[sample(0.010, lag_s=0.004)] * 10, client_cpu_s=0.5)
    found = figures_of(late, 1)
    assert found.latency.p50_us == pytest.approx(10_000)
    assert [found.client.lag_avg_us, found.client.lag_p99_us] == pytest.approx([4_000, 4_000])


def test_the_clients_own_cost_is_shown() -> None:
    found = figures_of(window([0.01] * 50, duration_s=2.0, cpu_s=0.5), 1).client
    assert [found.cpu_us_per_request, found.cores] == pytest.approx([10_000, 0.25])
    assert [found.send_us, found.recv_us] == pytest.approx([50, 10])


def test_windows_are_joined_by_their_samples_and_not_by_their_averages() -> None:
    whole = merged([window([0.001] * 10), window([0.009] * 30, duration_s=3.0)])
    assert figures_of(whole, 1).latency.avg_us == pytest.approx(7_000)
    assert figures_of(whole, 1).inferences_per_s == pytest.approx(10)


def test_the_best_is_one_windows_throughput_and_the_fast_end_of_all_latencies() -> None:
    found = best_of([window([0.004] * 10), window([0.002] * 20), window([], refused=1)], 2)
    assert [found.inferences_per_s, found.p10_us] == pytest.approx([40, 2_000])
    with pytest.raises(NothingAnswered):
        best_of([window([])], 1)


def test_a_level_without_an_answer_has_no_numbers() -> None:
    with pytest.raises(NothingAnswered, match="queue full"):
        figures_of(window([], refused=3), 1)
