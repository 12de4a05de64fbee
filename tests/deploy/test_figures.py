"""The numbers of `vlaapi status --watch`: what two readings of `/metrics` add up to, and the picture of it."""

import io

import pytest
from rich.console import Console

from control_plane.metrics import Metrics, create_metrics, render
from deploy.embedded.figures import Reading, figures, reading_of
from deploy.embedded.status import Phase, ServerState, ServerStatus, Status
from deploy.embedded.watch import picture


def read(metrics: Metrics, at_s: float) -> Reading:
    return reading_of(render(metrics).decode(), at_s=at_s)


def answer(
    metrics: Metrics, *, times: int, outcome: str = "success", seconds: float = 0.05, route: str = "/v1/inference"
) -> None:
    """So many requests ended so."""
    for _ in range(times):
        metrics.requests.labels(route, "tabletop", outcome).inc()
        metrics.request_duration.labels(route, "tabletop").observe(seconds)


def test_what_happened_between_two_readings_is_what_counts() -> None:
    metrics = create_metrics()
    answer(metrics, times=1000, seconds=4.0)  # long ago
    before = read(metrics, 100.0)
    answer(metrics, times=96)
    answer(metrics, times=4, outcome="overloaded", seconds=0.4)
    answer(metrics, times=50, outcome="minute_limit", seconds=0.001)  # neither good nor our fault
    answer(metrics, times=500, route="/ready")  # no motion
    metrics.guard_decisions.labels("tabletop", "clamp").inc(6)
    found = figures(before, read(metrics, 130.0))
    assert found.requests_per_minute == pytest.approx(300)
    assert found.success_share == pytest.approx(0.96)
    assert found.mean_ms == pytest.approx(1000 * (96 * 0.05 + 4 * 0.4 + 50 * 0.001) / 150)
    assert found.decisions_per_minute == {"clamp": pytest.approx(12)}
    assert found.errors_per_minute == {"overloaded": pytest.approx(8), "minute_limit": pytest.approx(100)}


def test_p99_is_what_prometheus_would_say() -> None:
    metrics = create_metrics()
    before = read(metrics, 0.0)
    answer(metrics, times=98, seconds=0.05)
    answer(metrics, times=2, seconds=0.25)
    found = figures(before, read(metrics, 60.0))
    assert found.p99_ms == pytest.approx(250)  # half of the two between the edges 0.2 and 0.3
    answer(metrics, times=9000, seconds=60.0)
    beyond = figures(before, read(metrics, 60.0))
    assert beyond.p99_ms == pytest.approx(5000)  # the last edge


def test_without_a_first_reading_or_traffic_rates_are_not_made_up() -> None:
    metrics = create_metrics()
    first = read(metrics, 0.0)
    assert figures(None, first).requests_per_minute is None
    found = figures(first, read(metrics, 2.0))
    assert (found.requests_per_minute, found.success_share, found.mean_ms, found.p99_ms) == (0, None, None, None)


def test_a_counter_that_began_anew_counts_from_zero() -> None:
    metrics, fresh = create_metrics(), create_metrics()
    answer(metrics, times=100)
    answer(fresh, times=30)
    assert figures(read(metrics, 0.0), read(fresh, 60.0)).requests_per_minute == pytest.approx(30)


def test_a_replica_is_as_bad_as_any_process_sees_it() -> None:
    metrics = create_metrics()
    for replica, state, processes in (("a:1", "serving", 2), ("a:1", "away", 0), ("b:1", "serving", 1), ("b:1", "away", 1)):
        metrics.fleet.processes.labels(replica, state).set(processes)
    assert figures(None, read(metrics, 0.0)).replicas == {"a:1": "serving", "b:1": "away"}


def test_the_picture_holds_every_number_of_the_dashboard() -> None:
    metrics = create_metrics()
    before = read(metrics, 0.0)
    answer(metrics, times=992)
    answer(metrics, times=8, outcome="policy_failed")
    metrics.watch.active_customers.set(23)
    metrics.watch.dead.labels("mails").set(2)
    metrics.stream_length.set(1234)
    metrics.in_flight.set(7)
    metrics.guard_decisions.labels("tabletop", "pass").inc(992)
    metrics.fleet.processes.labels("127.0.0.1:18001", "serving").set(2)
    nginx = ServerStatus(state=ServerState.READY, pid=1, ready_after_s=0.1)
    status = Status(
        state=Phase.READY, supervisor_pid=7, url="http://127.0.0.1:8080", servers={"nginx": nginx}, notes=("no such thing",)
    )
    console = Console(file=io.StringIO(), width=110)
    with console.capture() as shown:
        console.print(picture(status, figures(before, read(metrics, 60.0)), [0, 500, 1000]))
    text = shown.get()
    for part in (
        "1,000",
        "▁▅█",
        "99.20%",
        "50.0 ms",
        "23",
        "1,234",
        "7",
        "2 mails",
        "policy_failed",
        "serving",
        "ready after 0.1 s",
    ):
        assert part in text, part
    assert "note: no such thing" in text
