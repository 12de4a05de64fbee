"""The Operations dashboard: is the service well right now, and if not, where. The seed's panels are the first two rows."""

from dashboards.boards import traffic
from dashboards.boards.board import (
    GREEN,
    ORANGE,
    Board,
    Kind,
    Panel,
    Row,
    Scale,
    Step,
    above,
    below,
    none_is_good,
    promql,
    sql,
)
from dashboards.boards.slow_look import BEHIND, OBJECTIVES, WATCHED

# Below 60 % the GPUs are paid for and idle, above 80 % there is no room for a peak.
BUSY = Scale(base=ORANGE, steps=(Step(at=60, color=GREEN), Step(at=80, color=ORANGE), Step(at=95, color="red")))
_LAST_HOUR = "FROM dashboards.customers_last_hour"

_NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="Requests per minute",
            means="Requests at every door that asks for an action, however they ended.",
            kind=Kind.STAT,
            asks=(promql("vla_requests_per_minute"),),
            unit="short",
            width=4,
            height=4,
            decimals=0,
        ),
        Panel(
            title="Success rate",
            means=(
                "Answered, or refused by the guard, out of those that could have been answered. Below 99.9 % "
                "the month's budget shrinks."
            ),
            kind=Kind.STAT,
            asks=(promql("vla_success_rate"),),
            unit="percentunit",
            width=4,
            height=4,
            high=1.0,
            decimals=2,
            scale=above(0.99, 0.999),
        ),
        Panel(
            title="Average latency",
            means="From the first byte to the answer, over five minutes.",
            kind=Kind.STAT,
            asks=(promql("vla_avg_latency_ms"),),
            unit="ms",
            width=4,
            height=4,
            decimals=0,
            scale=below(150, 200),
        ),
        Panel(
            title="p99 latency",
            means="The objective is 200 ms; above 500 ms somebody is paged.",
            kind=Kind.STAT,
            asks=(promql("1000 * vla_latency_seconds:p99"),),
            unit="ms",
            width=4,
            height=4,
            decimals=0,
            scale=below(200, 500),
        ),
        Panel(
            title="GPU usage",
            means="Mean over all GPUs: 60 to 80 % is right. A GPU counts as used whenever any kernel runs on it.",
            kind=Kind.STAT,
            asks=(promql("100 * vla_gpu_utilization"),),
            unit="percent",
            width=4,
            height=4,
            high=100,
            decimals=0,
            scale=BUSY,
            when_empty="no GPU",
        ),
        Panel(
            title="In flight",
            means="Requests being worked on at this moment, over all API processes.",
            kind=Kind.STAT,
            asks=(promql("sum(vla_in_flight_requests)"),),
            unit="short",
            width=4,
            height=4,
            decimals=0,
        ),
    ),
)

_HOUR = Row(
    title="The last hour",
    panels=(
        Panel(
            title="Requests per minute by outcome",
            means="success and refused are answers; the rest are error codes (docs/ERRORS.md).",
            kind=Kind.SERIES,
            asks=(promql(f"60 * {traffic.asked(by='outcome')}", "{{outcome}}"),),
            unit="short",
            width=24,
            height=9,
            is_stacked=True,
        ),
        Panel(
            title="Active customers",
            means="Customers with at least one request in the last hour, test keys left out.",
            kind=Kind.STAT,
            asks=(sql(f"SELECT count(*) AS customers {_LAST_HOUR}"),),
            unit="short",
            width=8,
            height=4,
            decimals=0,
        ),
        Panel(
            title="Top customer",
            means=(
                "Who sent the most in the last hour, and their share. One customer above half is a risk to "
                "capacity and to revenue."
            ),
            kind=Kind.STAT,
            asks=(
                sql(f"""
                    SELECT company_name || ' (' || round(share_pct) || ' %)' AS customer {_LAST_HOUR}
                    ORDER BY requests DESC, company_name LIMIT 1
                """),
            ),
            unit="string",
            width=8,
            height=4,
            is_text=True,
        ),
        Panel(
            title="Errors (last hour)",
            means="Requests that failed by our fault, and their share. 1 % is the line where somebody should look.",
            kind=Kind.STAT,
            asks=(
                promql(traffic.our_faults_counted("1h"), "errors", is_now=True),
                promql('100 * slo:sli_error:ratio_rate1h{slo="availability"}', "per cent", is_now=True),
            ),
            unit="short",
            width=8,
            height=4,
            scale=none_is_good(),
            has_graph=False,
        ),
    ),
)

_LATENCY = Row(
    title="Latency",
    panels=(
        Panel(
            title="Latency percentiles",
            means="Percentiles of all requests. The lines are the objective (200 ms) and the page (500 ms).",
            kind=Kind.SERIES,
            asks=(
                promql(f"1000 * {traffic.percentile(0.5)}", "p50"),
                promql(f"1000 * {traffic.percentile(0.95)}", "p95"),
                promql(f"1000 * {traffic.percentile(0.99)}", "p99"),
                promql(f"1000 * {traffic.mean_s()}", "mean"),
            ),
            unit="ms",
            width=12,
            scale=below(200, 500, is_line=True),
        ),
        Panel(
            title="p95 by stage",
            means=(
                "Time in one step of the pipeline. compute is Triton with its queue; fair_queue exists only when somebody waited."
            ),
            kind=Kind.SERIES,
            asks=(
                promql(
                    "1000 * histogram_quantile(0.95, sum by (stage, le) "
                    f"(rate(vla_stage_duration_seconds_bucket[{traffic.WINDOW}])))",
                    "{{stage}}",
                ),
            ),
            unit="ms",
            width=12,
        ),
        Panel(
            title="Where the time goes",
            means="Mean time in each step, on top of each other: the height is what a request costs in steps.",
            kind=Kind.SERIES,
            asks=(
                promql(
                    f"1000 * sum by (stage) (rate(vla_stage_duration_seconds_sum[{traffic.WINDOW}])) "
                    f"/ sum by (stage) (rate(vla_stage_duration_seconds_count[{traffic.WINDOW}]))",
                    "{{stage}}",
                ),
            ),
            unit="ms",
            width=12,
            is_stacked=True,
        ),
        Panel(
            title="p99 by stage",
            means="The slowest hundredth of each step.",
            kind=Kind.SERIES,
            asks=(
                promql(
                    "1000 * histogram_quantile(0.99, sum by (stage, le) "
                    f"(rate(vla_stage_duration_seconds_bucket[{traffic.WINDOW}])))",
                    "{{stage}}",
                ),
            ),
            unit="ms",
            width=12,
        ),
    ),
)

_QUEUES = Row(
    title="Queues and batches",
    panels=(
        Panel(
            title="Waiting",
            means=(
                "Requests in flight, those that wait for a slot (fair queue), and those queued in Triton. "
                "Growing without end: add a replica."
            ),
            kind=Kind.SERIES,
            asks=(
                promql("sum(vla_in_flight_requests)", "in flight"),
                promql("sum(vla_fair_queue_waiting) or vector(0)", "fair queue"),
                promql("sum(nv_inference_pending_request_count)", "in Triton's queue"),
            ),
            unit="short",
            width=8,
        ),
        Panel(
            title="Turned away in the queue",
            means="Requests per minute whose slot would have come too late (too_far) or came too late (too_late).",
            kind=Kind.SERIES,
            asks=(promql(f"60 * (sum(rate(vla_fair_queue_shed_total[{traffic.WINDOW}])) or vector(0))", "turned away"),),
            unit="short",
            width=8,
            scale=none_is_good(),
        ),
        Panel(
            title="Batch size",
            means=(
                "Requests that Triton put into one run of the model, by policy. 1 under load means that batching does not happen."
            ),
            kind=Kind.SERIES,
            asks=(
                promql(
                    f"sum by (model) (rate(nv_inference_count[{traffic.WINDOW}])) "
                    f"/ sum by (model) (rate(nv_inference_exec_count[{traffic.WINDOW}]))",
                    "{{model}}",
                ),
            ),
            unit="short",
            width=8,
            decimals=1,
        ),
    ),
)

_GUARD = Row(
    title="Action guard",
    panels=(
        Panel(
            title="Decisions per minute",
            means="Verdicts of the guard. A rise of reject or clamp after a rollout says that the new policy moves differently.",
            kind=Kind.SERIES,
            asks=(promql(f"60 * sum by (decision) (rate(vla_guard_decisions_total[{traffic.WINDOW}]))", "{{decision}}"),),
            unit="short",
            width=8,
            is_stacked=True,
        ),
        Panel(
            title="Rules that acted, per minute",
            means="The ten rules that warned, clamped, truncated or rejected most (docs/SAFETY.md).",
            kind=Kind.SERIES,
            asks=(
                promql(
                    f"60 * topk(10, sum by (rule, status) (rate(vla_guard_rules_total[{traffic.WINDOW}])))", "{{rule}} {{status}}"
                ),
            ),
            unit="short",
            width=8,
        ),
        Panel(
            title="Rules that could not look, per minute",
            means="By why. no state sent, for instance, is the customer's choice; anything that rises by itself is not.",
            kind=Kind.SERIES,
            asks=(promql(f"60 * sum by (reason) (rate(vla_guard_not_evaluated_total[{traffic.WINDOW}]))", "{{reason}}"),),
            unit="short",
            width=8,
        ),
    ),
)

OPERATIONS = Board(
    uid="vlaapi-operations",
    title="VLA API: Operations",
    means="Whether the service is well right now, and if not, where.",
    since="now-1h",
    refresh="30s",
    rows=(_NOW, _HOUR, _LATENCY, _QUEUES, _GUARD, OBJECTIVES, BEHIND, WATCHED),
)
