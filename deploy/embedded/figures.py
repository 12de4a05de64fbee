"""The numbers of the Operations dashboard out of two readings of `/metrics`: plain arithmetic, as Prometheus would do it.

Same words as `deploy/prometheus/rules/recording.yml`; a test compares both with the doors and the table of errors. A figure that
cannot be said yet is None. Knows no terminal.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from control_plane.errors import ERRORS

# Not imported from the doors: that would load the whole web application for `vlaapi status`.
MOTIONS = frozenset({"/v1/inference", "/act", "/v1/actions/generations", "/", "/openpi/policy", "/v1/stream"})
GOOD = frozenset({"success", "refused", "replayed"})
FAULTS = frozenset({*(code for code, kind in ERRORS.items() if kind.status >= 500), "cancelled"})

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All series at one instant (monotonic seconds)."""

    at_s: float
    series: Series

    def each(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Every series of that name with its labels."""
        return ((dict(labels), value) for (found, labels), value in self.series.items() if found == name)

    def value(self, name: str) -> float:
        """The sum over all labels; 0 when there is none."""
        return sum(value for _, value in self.each(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is shown. Shares are from 0 to 1."""

    requests_per_minute: float | None
    success_share: float | None
    mean_ms: float | None
    p99_ms: float | None
    in_flight: int
    waiting: int
    stream_length: int
    stream_oldest_s: float
    spooled: int
    active_customers: int
    spiking_customers: int
    dead: Mapping[str, int]
    decisions_per_minute: Mapping[str, float]
    errors_per_minute: Mapping[str, float]
    replicas: Mapping[str, str]


def reading_of(text: str, *, at_s: float) -> Reading:
    """From Prometheus' text."""
    series = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return Reading(at_s=at_s, series=series)


def figures(before: Reading | None, now: Reading) -> Figures:
    """What happened between the two, and how things stand now."""
    grown = Reading(at_s=now.at_s, series={} if before is None else _grown(before, now))
    minutes = math.inf if before is None else max(now.at_s - before.at_s, 1e-9) / 60
    outcomes = _by(grown, "vla_requests_total", "outcome", only_motions=True)
    good, failed = (sum(outcomes.get(name, 0) for name in names) for names in (GOOD, FAULTS))
    count = sum(value for labels, value in grown.each("vla_request_duration_seconds_count") if labels["route"] in MOTIONS)
    spent_s = sum(value for labels, value in grown.each("vla_request_duration_seconds_sum") if labels["route"] in MOTIONS)
    return Figures(
        requests_per_minute=None if before is None else sum(outcomes.values()) / minutes,
        success_share=good / (good + failed) if good + failed else None,
        mean_ms=1000 * spent_s / count if count else None,
        p99_ms=_quantile_ms(grown, 0.99),
        in_flight=round(now.value("vla_in_flight_requests")),
        waiting=round(now.value("vla_fair_queue_waiting")),
        stream_length=round(now.value("vla_stream_length")),
        stream_oldest_s=now.value("vla_stream_oldest_age_seconds"),
        spooled=round(now.value("vla_spool_events")),
        active_customers=round(now.value("vla_active_customers")),
        spiking_customers=round(now.value("vla_customers_spiking")),
        dead={labels["kind"]: round(value) for labels, value in now.each("vla_dead")},
        decisions_per_minute={name: n / minutes for name, n in _by(grown, "vla_guard_decisions_total", "decision").items()},
        errors_per_minute={name: n / minutes for name, n in outcomes.items() if name not in GOOD and n},
        replicas=_replicas(now),
    )


def _grown(before: Reading, now: Reading) -> Series:
    """By how much each series is larger; one that fell was begun anew."""
    return {key: value - old if value >= (old := before.series.get(key, 0.0)) else value for key, value in now.series.items()}


def _by(reading: Reading, name: str, label: str, *, only_motions: bool = False) -> dict[str, float]:
    sums: dict[str, float] = {}
    for labels, value in reading.each(name):
        if not only_motions or labels["route"] in MOTIONS:
            sums[labels[label]] = sums.get(labels[label], 0) + value
    return sums


def _quantile_ms(grown: Reading, quantile: float) -> float | None:
    """As `histogram_quantile`: linear inside a bucket, the last edge for what lies beyond it."""
    sums: dict[float, float] = {}
    for labels, value in grown.each("vla_request_duration_seconds_bucket"):
        if labels["route"] in MOTIONS:
            sums[float(labels["le"])] = sums.get(float(labels["le"]), 0) + value
    edges = sorted(sums)
    if not edges or not sums[edges[-1]]:
        return None
    rank, below, lower_s = quantile * sums[edges[-1]], 0.0, 0.0
    for edge in edges:
        if sums[edge] >= rank:
            if math.isinf(edge):
                return 1000 * lower_s
            return 1000 * (lower_s + (edge - lower_s) * (rank - below) / (sums[edge] - below))
        below, lower_s = sums[edge], edge
    return None


def _replicas(now: Reading) -> dict[str, str]:
    """Each Triton with the worst state that any API process sees it in."""
    worst = ("away", "ejected", "draining", "serving")
    seen: dict[str, str] = {}
    for labels, processes in now.each("vla_replica_processes"):
        state = seen.get(labels["replica"], "serving")
        if processes and worst.index(labels["state"]) <= worst.index(state):
            seen[labels["replica"]] = labels["state"]
    return seen
