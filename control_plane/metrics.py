"""Every Prometheus series this product exports, declared once and passed as a value (no module singletons).

Right with several API processes: with PROMETHEUS_MULTIPROC_DIR set, each process writes its own files there and `render`
adds them up. No customer label: customers are counted in SQL. Names and labels are listed in docs/METRICS.md (a test compares).
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from control_plane.tallies import ALL_HANDED_ON_S, Histogram, Tallies

MULTIPROC_DIR = "PROMETHEUS_MULTIPROC_DIR"

# Edges at exactly 0.2 and 0.5 s: the objective and the alert line (a missing edge makes p99 a guess).
REQUEST_EDGES_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
STAGE_EDGES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMetrics:
    """The series about Triton's replicas and the fair queue before them."""

    in_flight: Gauge
    processes: Gauge
    ejections: Counter
    retries: Counter
    waiting: Gauge
    shed: Counter


@dataclass(frozen=True, slots=True, kw_only=True)
class BookkeepingMetrics:
    """What is compared, corrected and archived behind the money."""

    reconcile_difference: Gauge
    reconcile_at: Gauge
    archive_days: Counter
    repairs: Counter
    violations: Gauge
    checked_at: Gauge
    backup_age: Gauge
    backup_at: Gauge
    backups: Counter


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchMetrics:
    """What the worker looks at for the operator's alerts."""

    worker_at: Gauge
    store_up: Gauge
    log_archive_stalled: Gauge
    redis_memory: Gauge
    spool_disk_used: Gauge
    dead: Gauge
    active_customers: Gauge
    spiking_customers: Gauge
    spike_ratio: Gauge
    certificate_until: Gauge


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The series of one process. Build with `create_metrics`. What every request counts is counted by `tallies`."""

    registry: CollectorRegistry
    tallies: Tallies
    request_duration: Histogram
    requests: Counter
    stage_duration: Histogram
    in_flight: Gauge
    guard_decisions: Counter
    guard_rules: Counter
    guard_not_evaluated: Counter
    auth: Counter
    limiter_fallback: Counter
    spend_counts: Counter
    journal_writes: Counter
    spool_events: Gauge
    triton_errors: Counter
    fleet: FleetMetrics
    recorder_rows: Counter
    recorder_lag: Gauge
    stream_length: Gauge
    stream_oldest_age: Gauge
    dead_letters: Counter
    bookkeeping: BookkeepingMetrics
    mails: Counter
    webhooks: Counter
    breaker_open: Gauge
    watch: WatchMetrics
    capture_frames: Counter
    capture_spool_bytes: Gauge
    capture_removed: Counter


def create_metrics() -> Metrics:
    """A fresh set of series in a registry of their own."""
    tallies = Tallies()
    r = _registry(tallies)
    return Metrics(
        registry=r,
        tallies=tallies,
        request_duration=Histogram(
            "vla_request_duration_seconds", "From first byte to answer.", ["route", "policy"], buckets=REQUEST_EDGES_S, registry=r
        ),
        requests=Counter(
            "vla_requests", "Requests by outcome (an error code, or success/refused).", ["route", "policy", "outcome"], registry=r
        ),
        stage_duration=Histogram(
            "vla_stage_duration_seconds", "Time in one pipeline step.", ["stage"], buckets=STAGE_EDGES_S, registry=r
        ),
        in_flight=_now(r, "vla_in_flight_requests", "Requests being worked on."),
        guard_decisions=Counter("vla_guard_decisions", "Verdicts of the action guard.", ["policy", "decision"], registry=r),
        guard_rules=Counter(
            "vla_guard_rules", "Rules that warned, clamped, truncated or rejected.", ["rule", "status"], registry=r
        ),
        guard_not_evaluated=Counter("vla_guard_not_evaluated", "Rules that could not look, by why.", ["reason"], registry=r),
        auth=Counter("vla_auth", "Key checks by where the answer came from and how it ended.", ["source", "outcome"], registry=r),
        limiter_fallback=_by(r, "vla_limiter_fallback", "Admissions decided without Redis by the per-process share.", "outcome"),
        spend_counts=_by(r, "vla_spend_counts", "Counts of what customers with a spend cap have spent, by outcome.", "outcome"),
        journal_writes=Counter("vla_journal_writes", "Usage events made durable, by where.", ["sink"], registry=r),
        spool_events=_latest("vla_spool_events", "Usage events waiting in the local spool.", r),
        triton_errors=Counter("vla_triton_errors", "Failed calls to Triton by kind.", ["kind"], registry=r),
        fleet=_fleet_metrics(r),
        recorder_rows=Counter("vla_recorder_rows", "Usage events by what the recorder did.", ["result"], registry=r),
        recorder_lag=_latest("vla_recorder_lag_seconds", "From event to row, newest of the last batch; 0 when none waits.", r),
        stream_length=_latest("vla_stream_length", "Usage events waiting in the stream.", r),
        stream_oldest_age=_latest("vla_stream_oldest_age_seconds", "Age of the oldest event not yet recorded.", r),
        dead_letters=_by(r, "vla_dead_letters", "Usage events set aside because they could not be recorded.", "reason"),
        bookkeeping=_bookkeeping_metrics(r),
        webhooks=_by(r, "vla_webhooks", "Attempts to deliver a webhook, by how they ended.", "outcome"),
        capture_frames=_by(r, "vla_capture_frames", "Frames of opted-in customers, by what became of them.", "outcome"),
        capture_spool_bytes=_latest("vla_capture_spool_bytes", "Captured frames waiting in local files, in bytes.", r),
        capture_removed=_by(r, "vla_capture_removed", "Captured episodes and orphaned objects removed, by why.", "why"),
        mails=_by(r, "vla_mails", "Attempts to send an e-mail, by how they ended.", "outcome"),
        breaker_open=_now(r, "vla_breaker_open", "API processes that take this store to be away.", "store"),
        watch=_watch_metrics(r),
    )


class _Registry(CollectorRegistry):
    """Whoever reads it reads what is counted up to then."""

    def __init__(self, tallies: Tallies) -> None:
        super().__init__()
        self._tallies = tallies

    def collect(self) -> Iterable[Metric]:
        self._tallies.hand_on()
        return super().collect()


def _registry(tallies: Tallies) -> CollectorRegistry:
    if MULTIPROC_DIR in os.environ:
        values.ValueClass = _value_class(os.getpid())
    return _Registry(tallies)


@cache
def _value_class(pid: int) -> Any:
    """prometheus_client's own, which would ask the kernel for the process id at every count.

    None of our processes forks after it has made its series.
    """
    return values.MultiProcessValue(process_identifier=lambda: pid)  # type: ignore[no-untyped-call] # upstream has no types


def _bookkeeping_metrics(r: CollectorRegistry) -> BookkeepingMetrics:
    return BookkeepingMetrics(
        reconcile_difference=_latest(
            "vla_reconcile_difference", "Roll-up rows that differed from the log when last compared.", r
        ),
        reconcile_at=_latest("vla_reconcile_timestamp_seconds", "When roll-ups and log were last compared.", r),
        archive_days=_by(r, "vla_archive_days", "Days of the log that left the database, and months that could not.", "result"),
        repairs=_by(r, "vla_reconcile_repairs", "What reconciliation corrected from the rows.", "what"),
        violations=_latest(
            "vla_invariant_violations", "Violations of each truth of billing when last looked at.", r, labels=["invariant"]
        ),
        checked_at=_latest("vla_invariant_timestamp_seconds", "When the truths of billing were last looked at.", r),
        backup_age=_latest("vla_backup_age_seconds", "Age of the newest backup of the database; +Inf while there is none.", r),
        backup_at=_latest("vla_backup_timestamp_seconds", "When the newest backup of the database was begun.", r),
        backups=_by(r, "vla_backups", "Backups of the database by what became of them.", "outcome"),
    )


def _watch_metrics(r: CollectorRegistry) -> WatchMetrics:
    return WatchMetrics(
        worker_at=_latest("vla_worker_timestamp_seconds", "When a worker last looked around.", r),
        store_up=_latest("vla_store_up", "Whether the worker reaches this store.", r, labels=["store"]),
        log_archive_stalled=_latest("vla_log_archive_stalled_seconds", "Since when PostgreSQL's log is not archived.", r),
        redis_memory=_latest("vla_redis_memory_ratio", "Redis' memory in use, of what it may take; 0 without a limit.", r),
        spool_disk_used=_latest("vla_spool_disk_used_ratio", "How full the disk of the spool is.", r),
        dead=_latest("vla_dead", "What was given up and waits for a person.", r, labels=["kind"]),
        active_customers=_latest("vla_active_customers", "Customers with a request in the last hour.", r),
        spiking_customers=_latest("vla_customers_spiking", "Customers that ask far more than they used to.", r),
        spike_ratio=_latest("vla_customer_spike_ratio", "The largest such spike, in times of that customer's mean.", r),
        certificate_until=_latest("vla_certificate_expiry_timestamp_seconds", "When the public certificate runs out.", r),
    )


def _fleet_metrics(r: CollectorRegistry) -> FleetMetrics:
    return FleetMetrics(
        in_flight=_now(r, "vla_replica_in_flight", "Calls at one Triton replica.", "replica"),
        processes=_now(
            r, "vla_replica_processes", "API processes that see one Triton replica in this state.", "replica", "state"
        ),
        ejections=Counter(
            "vla_replica_ejections", "Times a Triton replica was ejected, by why.", ["replica", "reason"], registry=r
        ),
        retries=Counter(
            "vla_replica_retries", "Calls that had reached no model there and went to another replica.", ["replica"], registry=r
        ),
        waiting=_now(r, "vla_fair_queue_waiting", "Requests that wait for a slot at a policy.", "policy"),
        shed=Counter("vla_fair_queue_shed", "Requests whose slot would have come, or came, too late.", ["reason"], registry=r),
    )


def _by(registry: CollectorRegistry, name: str, documentation: str, label: str) -> Counter:
    """A counter with one label."""
    return Counter(name, documentation, [label], registry=registry)


def _now(registry: CollectorRegistry, name: str, documentation: str, *labels: str) -> Gauge:
    """A gauge that is added up over the processes that live."""
    return Gauge(name, documentation, labels, registry=registry, multiprocess_mode="livesum")


def _latest(name: str, documentation: str, registry: CollectorRegistry, *, labels: Sequence[str] = ()) -> Gauge:
    """A gauge that any process may set for all of them: the newest value counts."""
    return Gauge(name, documentation, labels, registry=registry, multiprocess_mode="mostrecent")


def render(metrics: Metrics) -> bytes:
    """The exposition text over all processes of this machine (or of this one, without a multiprocess folder)."""
    folder = os.environ.get(MULTIPROC_DIR)
    if folder is None:
        return generate_latest(metrics.registry)
    metrics.tallies.hand_on()
    time.sleep(ALL_HANDED_ON_S)  # the other processes have done the same then
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]  # upstream is untyped
    return generate_latest(registry)
