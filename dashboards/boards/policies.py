"""The Policies dashboard: one policy's versions beside each other, the new one against the one that most robots have."""

from dashboards.boards import traffic
from dashboards.boards.board import Board, Column, Kind, Panel, Row, Variable, above, below, promql, sql

_RANGE = "request_id >= dashboards.id_at($__timeFrom()) AND timestamp BETWEEN $__timeFrom() AND $__timeTo()"
# What the caller got wrong, and dry runs of the guard, say nothing about a policy.
_REACHED = f"{_RANGE} AND policy = ${{policy:sqlstring}} AND version > 0 AND status NOT IN ('invalid', 'checked')"
_BUCKET = "date_bin(make_interval(secs => GREATEST($__interval_ms, 10000) / 1000.0), timestamp, 'epoch')"
_VERSION = Column(name="version", unit="none", decimals=0)


def _share(condition: str) -> str:
    return f"round(count(*) FILTER (WHERE {condition}) * 100.0 / count(*), 2)"


def _course(value: str) -> str:
    return f"""
        SELECT {_BUCKET} AS time, 'version ' || version AS metric, {value} AS value
        FROM requests WHERE {_REACHED} GROUP BY 1, 2 ORDER BY 1
    """


_FIGURES = f"""
    SELECT version, count(*) AS requests, {_share("status = 'success'")} AS answered_pct,
           {_share("status = 'refused'")} AS refused_pct,
           {_share("status IN ('timeout', 'error')")} AS failed_pct, {_share("decision IN ('clamp', 'truncate')")} AS changed_pct,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS p50_ms,
           percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS p99_ms,
           avg(compute_ms) AS compute_ms, avg(safety_score) AS safety_score
    FROM requests WHERE {_REACHED} GROUP BY version
"""

_BESIDE = Row(
    title="Versions of $policy beside each other",
    panels=(
        Panel(
            title="Versions",
            means="In the chosen time. A canary is well when every column is about that of the version above it.",
            kind=Kind.TABLE,
            asks=(sql(f"{_FIGURES} ORDER BY requests DESC, version DESC"),),
            unit="short",
            width=24,
            height=6,
            columns=(
                _VERSION,
                Column(name="requests", unit="locale", decimals=0),
                Column(name="answered_pct", label="answered", unit="percent", decimals=2, scale=above(95, 99)),
                Column(name="refused_pct", label="refused by the guard", unit="percent", decimals=2, scale=below(1, 5)),
                Column(name="failed_pct", label="failed", unit="percent", decimals=2, scale=below(0.1, 1)),
                Column(name="changed_pct", label="clamped or cut", unit="percent", decimals=2, scale=below(10, 30)),
                Column(name="p50_ms", label="p50", unit="ms", decimals=1),
                Column(name="p99_ms", label="p99", unit="ms", decimals=1, scale=below(200, 500)),
                Column(name="compute_ms", label="compute", unit="ms", decimals=1),
                Column(name="safety_score", label="safety score", unit="none", decimals=3, scale=above(0.5, 0.8)),
            ),
        ),
        Panel(
            title="Canary against stable",
            means=(
                "Each other version less the busiest one: points of per cent, milliseconds, and score. Red is "
                "worse by enough to stop."
            ),
            kind=Kind.TABLE,
            asks=(
                sql(f"""
                    WITH versions AS ({_FIGURES}), stable AS (SELECT * FROM versions ORDER BY requests DESC, version LIMIT 1)
                    SELECT v.version, s.version AS stable, v.requests, v.answered_pct - s.answered_pct AS answered,
                           v.refused_pct - s.refused_pct AS refused, v.failed_pct - s.failed_pct AS failed,
                           v.p50_ms - s.p50_ms AS p50, v.p99_ms - s.p99_ms AS p99, v.safety_score - s.safety_score AS safety_score
                    FROM versions v CROSS JOIN stable s WHERE v.version <> s.version ORDER BY v.version DESC
                """),
            ),
            unit="short",
            width=24,
            height=5,
            low=None,
            when_empty="only one version has had requests",
            columns=(
                _VERSION,
                Column(name="stable", label="against version", unit="none", decimals=0),
                Column(name="requests", unit="locale", decimals=0),
                Column(name="answered", unit="percent", decimals=2, scale=above(-1, -0.1)),
                Column(name="refused", unit="percent", decimals=2, scale=below(0.5, 2)),
                Column(name="failed", unit="percent", decimals=2, scale=below(0.1, 1)),
                Column(name="p50", unit="ms", decimals=1, scale=below(5, 20)),
                Column(name="p99", unit="ms", decimals=1, scale=below(20, 100)),
                Column(name="safety_score", label="safety score", unit="none", decimals=3, scale=above(-0.05, -0.01)),
            ),
        ),
        Panel(
            title="Requests per minute",
            means="How much each version gets.",
            kind=Kind.SERIES,
            asks=(sql(_course("count(*) * 60000.0 / GREATEST($__interval_ms, 10000)"), is_series=True),),
            unit="short",
            width=8,
            is_stacked=True,
        ),
        Panel(
            title="p95 latency",
            means="Of requests that reached the version.",
            kind=Kind.SERIES,
            asks=(sql(_course("percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms)"), is_series=True),),
            unit="ms",
            width=8,
            scale=below(200, 500, is_line=True),
        ),
        Panel(
            title="Safety score",
            means="Mean of the guard's overall score; 1 is far from every limit.",
            kind=Kind.SERIES,
            asks=(sql(_course("avg(safety_score)"), is_series=True),),
            unit="none",
            width=8,
            high=1,
            decimals=2,
        ),
        Panel(
            title="Not passed as it was",
            means="Share that the guard refused, clamped or cut.",
            kind=Kind.SERIES,
            asks=(sql(_course(_share("decision IN ('reject', 'clamp', 'truncate')")), is_series=True),),
            unit="percent",
            width=8,
            high=100,
            scale=below(10, 30, is_line=True),
        ),
        Panel(
            title="Failed",
            means="Share that failed by our fault or came too late.",
            kind=Kind.SERIES,
            asks=(sql(_course(_share("status IN ('timeout', 'error')")), is_series=True),),
            unit="percent",
            width=8,
            high=100,
            scale=below(0.1, 1, is_line=True),
        ),
        Panel(
            title="What limited it",
            means="The rule that set the score, by version: where a version's motion is close to a limit.",
            kind=Kind.TABLE,
            asks=(
                sql(f"""
                    SELECT version, limiting_rule, count(*) AS requests, min(safety_score) AS lowest_score
                    FROM requests WHERE {_REACHED} AND limiting_rule IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 20
                """),
            ),
            unit="short",
            width=8,
            columns=(
                _VERSION,
                Column(name="limiting_rule", label="rule", unit="string"),
                Column(name="requests", unit="locale", decimals=0),
                Column(name="lowest_score", label="lowest score", unit="none", decimals=3, scale=above(0.2, 0.5)),
            ),
        ),
    ),
)

_IN_TRITON = Row(
    title="All policies",
    panels=(
        Panel(
            title="Requests per minute by policy",
            means="At every door; unknown is what failed before a policy was chosen.",
            kind=Kind.SERIES,
            asks=(promql(f"60 * {traffic.asked(by='policy')}", "{{policy}}"),),
            unit="short",
            width=8,
            is_stacked=True,
        ),
        Panel(
            title="p95 latency by policy",
            means="From the first byte to the answer.",
            kind=Kind.SERIES,
            asks=(
                promql(
                    "1000 * histogram_quantile(0.95, sum by (policy, le) "
                    f"(rate(vla_request_duration_seconds_bucket[{traffic.WINDOW}])))",
                    "{{policy}}",
                ),
            ),
            unit="ms",
            width=8,
            scale=below(200, 500, is_line=True),
        ),
        Panel(
            title="Compute by version, in Triton",
            means="Mean milliseconds of the model itself.",
            kind=Kind.SERIES,
            asks=(
                promql(
                    f"sum by (model, version) (rate(nv_inference_compute_infer_duration_us[{traffic.WINDOW}])) "
                    f"/ sum by (model, version) (rate(nv_inference_request_success[{traffic.WINDOW}])) / 1000",
                    "{{model}} {{version}}",
                ),
            ),
            unit="ms",
            width=8,
        ),
    ),
)

POLICIES = Board(
    uid="vlaapi-policies",
    title="VLA API: Policies",
    means="One policy's versions beside each other: is the new one as good as the one that most robots have?",
    since="now-3h",
    refresh="30s",
    rows=(_BESIDE, _IN_TRITON),
    variables=(
        Variable(
            name="policy",
            label="Policy",
            ask=sql("""
                SELECT policy FROM requests WHERE request_id >= dashboards.id_at(now() - interval '1 day')
                    AND timestamp >= now() - interval '1 day' AND version > 0 GROUP BY policy ORDER BY count(*) DESC
            """),
        ),
    ),
)
