"""For every alert, what makes it fire and what just does not: the input of `promtool test rules`.

Series are in promtool's notation, one value a minute: `5x20` is five for twenty minutes, `0+60x20` grows by 60 a minute. Time
begins at the epoch, so a timestamp of `0+60x20` is always fresh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One alert at one instant. `firing` are the labels that it then has, beside severity; None: it does not fire."""

    alert: str
    series: Mapping[str, str]
    at: str
    firing: Labels | None = None


def _pair(alert: str, at: str, fires: Mapping[str, str], quiet: Mapping[str, str], labels: Labels | None = None) -> list[Case]:
    firing = Case(alert=alert, series=fires, at=at, firing=labels or {})
    return [firing, Case(alert=alert, series=quiet, at=at)]


def _one(alert: str, at: str, name: str, fires: str, quiet: str, *, labels: Labels | None = None) -> list[Case]:
    """Another value of the same series."""
    return _pair(alert, at, {name: fires}, {name: quiet}, labels)


def _ratios(slo: str, **windows: str) -> dict[str, str]:
    return {f'slo:sli_error:ratio_rate{window}{{slo="{slo}"}}': value for window, value in windows.items()}


def _motions(**per_minute: int) -> dict[str, str]:
    return {
        f'vla_requests_total{{route="/v1/inference",policy="p",outcome="{outcome}"}}': f"0+{count}x120"
        for outcome, count in per_minute.items()
    }


_POLICY = {"policy": "tabletop"}
_DISK = 'instance="db:9100",role="database",fstype="ext4",mountpoint="/data"'
_DISK_LABELS = {"instance": "db:9100", "role": "database", "fstype": "ext4", "mountpoint": "/data"}
_SIZE = {f"node_filesystem_size_bytes{{{_DISK}}}": "1000x400"}

_SLO = [
    # Both windows of a pair, or nothing: the short one makes it stop soon, the long one keeps a blip from paging.
    *_pair(
        "AvailabilityBudgetBurn",
        "5m",
        _ratios("availability", **{"5m": "0.0145x9", "1h": "0.0145x9", "30m": "0x9", "6h": "0x9"}),
        _ratios("availability", **{"5m": "0.5x9", "1h": "0.0143x9", "30m": "0.5x9", "6h": "0.0059x9"}),
    ),
    *_pair(
        "AvailabilityBudgetBurn",
        "5m",
        _ratios("availability", **{"5m": "0x9", "1h": "0x9", "30m": "0.0061x9", "6h": "0.0061x9"}),
        _ratios("latency", **{"5m": "0.5x9", "1h": "0.5x9", "30m": "0.5x9", "6h": "0.5x9"}),  # the other objective
    ),
    *_pair(
        "AvailabilityBudgetBurnSlow",
        "5m",
        _ratios("availability", **{"2h": "0.0031x9", "1d": "0.0031x9", "6h": "0x9", "3d": "0x9"}),
        _ratios("availability", **{"2h": "0.5x9", "1d": "0.0029x9", "6h": "0.0011x9", "3d": "0.0009x9"}),
    ),
    *_pair(
        "LatencyBudgetBurn",
        "5m",
        _ratios("latency", **{"5m": "0.145x9", "1h": "0.145x9", "30m": "0x9", "6h": "0x9"}),
        _ratios("latency", **{"5m": "0.5x9", "1h": "0.143x9", "30m": "0.5x9", "6h": "0.059x9"}),
    ),
    *_pair(
        "LatencyBudgetBurnSlow",
        "5m",
        _ratios("latency", **{"2h": "0x9", "1d": "0x9", "6h": "0.011x9", "3d": "0.011x9"}),
        _ratios("latency", **{"2h": "0.029x9", "1d": "0.5x9", "6h": "0.009x9", "3d": "0.5x9"}),
    ),
]

_API = [
    *_pair("ErrorRateHigh", "20m", _motions(success=94, internal_error=6), _motions(success=96, internal_error=4)),
    # Neither what callers got wrong nor what limits refused is an error of ours; two requests an hour are no rate.
    *_pair("ErrorRateHigh", "20m", _motions(success=90, overloaded=10), _motions(success=10, minute_limit=90, invalid_image=90)),
    *_pair("ErrorRateHigh", "20m", _motions(success=6, policy_failed=6), _motions(success=2, policy_failed=2)),
    *_pair(
        "LatencyP99High",
        "20m",
        {"vla_latency_seconds:p99": "0.51x30", **_motions(success=60)},
        {"vla_latency_seconds:p99": "0.49x30", **_motions(success=60)},
    ),
    *_pair("GuardUnavailable", "10m", _motions(guard_unavailable=1), _motions(success=60, refused=9)),
    *_one("QueueLong", "10m", 'vla_fair_queue_waiting{policy="tabletop"}', "33x20", "32x20", labels=_POLICY),
    *_one(
        "QueueLong", "10m", 'nv_inference_pending_request_count{model="m",version="1"}', "65x20", "64x20", labels={"model": "m"}
    ),
    *_one(
        "TrafficStopped",
        "100m",
        'vla_requests_total{route="/v1/inference",policy="p",outcome="success"}',
        "0+60x80 4800x40",
        "0+60x120",
    ),
    *_one("LimitsUnshared", "20m", 'vla_limiter_fallback_total{outcome="admitted"}', "0+1x30", "7x30"),
    *_one("BreakerOpen", "5m", 'vla_breaker_open{store="redis"}', "1x9", "0x9", labels={"store": "redis"}),
    *_one("CustomerUsageSpike", "10m", "vla_customers_spiking", "1x20", "0x20"),
]

_MONEY = [
    *_one("AnswersWithheld", "10m", 'vla_journal_writes_total{sink="none"}', "0+1x20", "3x20"),
    *_one("WorkerSilent", "20m", "vla_worker_timestamp_seconds", "0+60x10 600x20", "0+60x30"),
    *_one("RecorderLagging", "10m", "vla_stream_oldest_age_seconds", "121x20", "119x20"),
    *_one("UsageStreamLong", "10m", "vla_stream_length", "100001x20", "99999x20"),
    *_one("SpoolGrowing", "15m", 'vla_spool_events{instance="api-1"}', "1x20", "0x20", labels={"instance": "api-1"}),
    *_one("DeadUsageEvents", "2m", 'vla_dead{kind="usage_events"}', "1x9", "0x9"),
    *_pair(
        "InvariantBroken",
        "2m",
        {'vla_invariant_violations{invariant="one_row"}': "1x9"},
        {'vla_invariant_violations{invariant="one_row"}': "0x9"},
        {"invariant": "one_row"},
    ),
    *_one("InvariantsUnchecked", "20m", "vla_invariant_timestamp_seconds", "-7200x40", "-5000x40"),  # before the epoch
    *_one("RollUpsDiffer", "2m", "vla_reconcile_difference", "2x9", "0x9"),
    *_one("ReconcileStale", "20m", "vla_reconcile_timestamp_seconds", "-93600x40", "-92000x40"),
    *_one("MailsDead", "2m", 'vla_dead{kind="mails"}', "1x9", "0x9"),
    *_one("WebhooksDead", "2m", 'vla_dead{kind="webhooks"}', "1x9", "0x9"),
    *_one("BackupTooOld", "20m", "vla_backup_age_seconds", "93601x30", "93599x30"),
    *_one("BackupTooOld", "20m", "vla_backup_age_seconds", " ".join(["Inf"] * 30), "0x30"),  # there is none
    *_one("LogArchiveStalled", "20m", "vla_log_archive_stalled_seconds", "60+60x30", "60x4 0x30"),
]

_SERVERS = [
    *_one("TargetDown", "10m", 'up{job="node",instance="n"}', "0x20", "1x20", labels={"job": "node", "instance": "n"}),
    *_one("TargetDown", "10m", 'nginx_up{job="nginx",instance="n"}', "0x20", "1x20", labels={"job": "nginx", "instance": "n"}),
    *_one(
        "TargetDown",
        "20m",
        'up{job="gpu",instance="g"}',
        "1x5 0x30",
        "0x30",  # it never was there: a machine without GPUs
        labels={"job": "gpu", "instance": "g"},
    ),
    *_one("ApiDown", "5m", 'up{job="api",instance="a"}', "0x20", "1x20", labels={"job": "api", "instance": "a"}),
    *_one(
        "TritonReplicaDown",
        "5m",
        'vla_replica_processes{replica="t:8001",state="away"}',
        "1x9",
        "0x9",
        labels={"replica": "t:8001"},
    ),
    *_pair(
        "NoTritonServing",
        "5m",
        {f'vla_replica_processes{{replica="{name}",state="serving"}}': "0x9" for name in "ab"},
        {
            'vla_replica_processes{replica="a",state="serving"}': "0x9",
            'vla_replica_processes{replica="b",state="serving"}': "2x9",
        },
    ),
    *_one("PostgresDown", "5m", 'vla_store_up{store="postgres"}', "0x9", "1x9"),
    *_one("PostgresDown", "5m", "pg_up", "0x9", "1x9"),
    *_one("RedisDown", "5m", 'vla_store_up{store="redis"}', "0x9", "1x9"),
    *_one("RedisDown", "5m", "redis_up", "0x9", "1x9"),
    *_one("ObjectStoreDown", "10m", 'vla_store_up{store="objects"}', "0x20", "1x20"),
    *_one("RedisMemoryHigh", "10m", "vla_redis_memory_ratio", "0.81x20", "0.79x20"),
    *_pair(
        "RedisMemoryHigh",
        "10m",
        {"redis_memory_used_bytes": "81x20", "redis_memory_max_bytes": "100x20"},
        {"redis_memory_used_bytes": "81x20", "redis_memory_max_bytes": "0x20"},  # without a limit
    ),
    *_pair(
        "PostgresConnectionsHigh",
        "10m",
        {'pg_stat_activity_count{state="idle"}': "81x20", "pg_settings_max_connections": "100x20"},
        {'pg_stat_activity_count{state="idle"}': "79x20", "pg_settings_max_connections": "100x20"},
    ),
    *_pair(
        "DatabaseDiskFull",
        "15m",
        {f"node_filesystem_avail_bytes{{{_DISK}}}": "199x20", **_SIZE},
        {f"node_filesystem_avail_bytes{{{_DISK}}}": "201x20", **_SIZE},
        _DISK_LABELS,
    ),
    *_pair(
        "DatabaseDiskFillsSoon",
        "5h",
        {f"node_filesystem_avail_bytes{{{_DISK}}}": "490-1x400", **_SIZE},
        {f"node_filesystem_avail_bytes{{{_DISK}}}": "490x400", **_SIZE},
        _DISK_LABELS,
    ),
    *_one("SpoolDiskFull", "15m", 'vla_spool_disk_used_ratio{instance="a"}', "0.81x20", "0.79x20", labels={"instance": "a"}),
    *_pair(
        "GpuTooHot",
        "5m",
        {'DCGM_FI_DEV_GPU_TEMP{instance="g",gpu="0"}': "86x9"},
        {
            'DCGM_FI_DEV_GPU_TEMP{instance="g",gpu="0"}': "85x9",
            'DCGM_FI_DEV_GPU_TEMP{instance="g",gpu="1"}': "9223372036854775794x9",
        },
        {"instance": "g", "gpu": "0"},
    ),
    *_one(
        "GpuFaulty",
        "10m",
        'DCGM_FI_DEV_XID_ERRORS{instance="g",gpu="0"}',
        "0x5 79x9",
        "79x20",  # the gauge holds the last error for ever
        labels={"instance": "g", "gpu": "0"},
    ),
    *_one("CertificateExpiring", "20m", "vla_certificate_expiry_timestamp_seconds", "1209600x30", "1296000x30"),
    *_one("CertificateExpiring", "20m", "vla_certificate_expiry_timestamp_seconds", "600x30", "0x30"),  # over; without TLS
    *_one(
        "AlertsUndelivered",
        "20m",
        'alertmanager_notifications_failed_total{integration="webhook"}',
        "0+1x30",
        "4x30",
        labels={"integration": "webhook"},
    ),
    *_one("Watchdog", "2m", 'up{job="api",instance="a"}', "1x9", "stale"),
]

CASES = (*_SLO, *_API, *_MONEY, *_SERVERS)


def together(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases in as few runs as can be: in one run no alert and no name of a series comes twice, so they do not meet."""
    runs: list[list[Case]] = []
    for case in cases:
        names = {case.alert, *_names(case)}
        free = next((run for run in runs if not any(names & {other.alert, *_names(other)} for other in run)), None)
        if free is None:
            runs.append([case])
        else:
            free.append(case)
    return runs


def _names(case: Case) -> set[str]:
    return {series.partition("{")[0] for series in case.series}
