"""What is counted beside Prometheus arrives there: once, in the right bucket, also from another thread."""

import asyncio
import math
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client import Histogram as Plain

from control_plane.metrics import REQUEST_EDGES_S, create_metrics
from control_plane.tallies import EVERY_S, Counts, Distributions, Histogram, Tallies

_SECONDS = st.one_of(st.floats(0, 10), st.sampled_from([*REQUEST_EDGES_S, 0.0, 6.0]))


@given(st.lists(st.lists(_SECONDS, max_size=20), max_size=5))
def test_a_distribution_says_what_prometheus_own_would_have_said(rounds: list[list[float]]) -> None:
    ours, theirs, tallies = CollectorRegistry(), CollectorRegistry(), Tallies()
    plain = Plain("t", "Time.", ["a"], buckets=REQUEST_EDGES_S, registry=theirs).labels("x")
    tallied = Distributions(Histogram("t", "Time.", ["a"], buckets=REQUEST_EDGES_S, registry=ours), tallies)["x",]
    for observed in rounds:
        for seconds in observed:
            plain.observe(seconds)
            tallied.observe(seconds)
        tallies.hand_on()
    assert _samples(ours) == pytest.approx(_samples(theirs))


def _samples(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_counts_go_up_and_a_gauge_comes_down_again() -> None:
    tallies, registry = Tallies(), CollectorRegistry()
    counts = Counts(Counter("c", "Things.", ["a", "b"], registry=registry), tallies)
    gauge = tallies.count(Gauge("g", "Now.", registry=registry))
    counts["x", "y"].inc()
    counts["x", "y"].inc(3)
    gauge.inc()
    assert registry.get_sample_value("c_total", {"a": "x", "b": "y"}) == 0  # known from the first count on, told later
    tallies.hand_on()
    tallies.hand_on()
    assert registry.get_sample_value("c_total", {"a": "x", "b": "y"}) == 4
    assert registry.get_sample_value("g") == 1
    gauge.dec()
    tallies.hand_on()
    assert registry.get_sample_value("g") == 0


def test_who_reads_the_registry_reads_what_was_counted_up_to_then() -> None:
    metrics = create_metrics()
    Counts(metrics.auth, metrics.tallies)["cache", "ok"].inc()
    assert metrics.registry.get_sample_value("vla_auth_total", {"source": "cache", "outcome": "ok"}) == 1


def test_nothing_is_lost_or_told_twice_while_others_read() -> None:
    metrics = create_metrics()
    count = Counts(metrics.auth, metrics.tallies)["cache", "ok"]
    spread = Distributions(metrics.stage_duration, metrics.tallies)["guard",]

    def read() -> None:
        for _ in range(300):
            metrics.tallies.hand_on()

    readers = [Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(30_000):
        count.inc()
        spread.observe(0.5)
    for reader in readers:
        reader.join()
    value = metrics.registry.get_sample_value
    assert value("vla_auth_total", {"source": "cache", "outcome": "ok"}) == 30_000
    assert value("vla_stage_duration_seconds_count", {"stage": "guard"}) == 30_000
    assert math.isclose(value("vla_stage_duration_seconds_sum", {"stage": "guard"}) or 0, 15_000)


async def test_it_is_handed_on_by_itself_and_once_more_at_the_end() -> None:
    tallies, registry = Tallies(), CollectorRegistry()
    count = tallies.count(Counter("c", "Things.", registry=registry))
    async with tallies.handing_on():
        count.inc()
        await asyncio.sleep(2 * EVERY_S)
        assert registry.get_sample_value("c_total") == 1
        count.inc()
    assert registry.get_sample_value("c_total") == 2
