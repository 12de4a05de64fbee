"""The lower rows of the Operations dashboard: the objectives over a month, and the bookkeeping behind the answers."""

from dashboards.boards import traffic
from dashboards.boards.board import PLAIN, Kind, Panel, Row, above, below, none_is_good, promql


def _burn(window: str) -> str:
    return f'slo:sli_error:ratio_rate{window}{{slo="availability"}} / on (slo) slo:error_budget:ratio'


OBJECTIVES = Row(
    title="Objectives, 30 days",
    panels=(
        Panel(
            title="Availability",
            means="Objective 99.9 %: 43 minutes of full outage a month.",
            kind=Kind.GAUGE,
            asks=(promql('1 - slo:sli_error:ratio_rate30d{slo="availability"}', is_now=True),),
            unit="percentunit",
            width=4,
            low=0.99,
            high=1.0,
            decimals=3,
            scale=above(0.999, 0.9995),
        ),
        Panel(
            title="Error budget left",
            means="Of the 0.1 % that may fail. At 0 only changes that make the service more dependable should go out.",
            kind=Kind.GAUGE,
            asks=(promql('clamp_min(slo:period_error_budget_remaining:ratio{slo="availability"}, 0)', is_now=True),),
            unit="percentunit",
            width=4,
            high=1.0,
            decimals=0,
            scale=above(0.25, 0.5),
        ),
        Panel(
            title="Within 200 ms",
            means="Objective 99 %: the literal meaning of a p99 below 200 ms.",
            kind=Kind.GAUGE,
            asks=(promql('1 - slo:sli_error:ratio_rate30d{slo="latency"}', is_now=True),),
            unit="percentunit",
            width=4,
            low=0.95,
            high=1.0,
            decimals=2,
            scale=above(0.98, 0.99),
        ),
        Panel(
            title="Burn rate",
            means="How many times faster than allowed the budget is spent. 14.4 for an hour pages, so do 6 for six hours.",
            kind=Kind.SERIES,
            asks=(
                promql(_burn("1h"), "1 h"),
                promql(_burn("6h"), "6 h"),
                promql(_burn("3d"), "3 d"),
            ),
            unit="short",
            width=12,
            decimals=1,
            scale=below(6, 14.4, is_line=True),
        ),
    ),
)

BEHIND = Row(
    title="Behind the answer",
    panels=(
        Panel(
            title="Usage events that wait",
            means=(
                "In the stream, and in spools on disk while Redis is away. Nothing is lost while they wait; "
                "above 10,000 the recorder is stuck."
            ),
            kind=Kind.SERIES,
            asks=(
                promql("max(vla_stream_length)", "stream"),
                promql("max(vla_spool_events)", "spool"),
                promql("sum(increase(vla_dead_letters_total[1h])) or vector(0)", "dead letters in an hour"),
            ),
            unit="short",
            width=8,
            scale=below(1_000, 10_000, is_line=True),
        ),
        Panel(
            title="Recorder's delay",
            means=(
                "From a request to its row, and the age of the oldest event without one. Above 60 s invoices "
                "and limits lag behind."
            ),
            kind=Kind.SERIES,
            asks=(
                promql("max(vla_recorder_lag_seconds)", "lag"),
                promql("max(vla_stream_oldest_age_seconds)", "oldest event"),
            ),
            unit="s",
            width=8,
            scale=below(10, 60, is_line=True),
        ),
        Panel(
            title="Violated truths of billing",
            means="Must be 0. docs/REVENUE.md says what to do about each.",
            kind=Kind.BARS,
            asks=(promql("max by (invariant) (vla_invariant_violations)", "{{invariant}}", is_now=True),),
            unit="short",
            width=8,
            high=1,
            decimals=0,
            scale=none_is_good(),
        ),
        Panel(
            title="Key checks per minute",
            means="By where the answer came from. Many unknown_key from nowhere: somebody tries keys.",
            kind=Kind.SERIES,
            asks=(promql(f"60 * sum by (source, outcome) (rate(vla_auth_total[{traffic.WINDOW}]))", "{{source}} {{outcome}}"),),
            unit="short",
            width=8,
        ),
        Panel(
            title="Admitted without Redis, per minute",
            means="Above 0 Redis is away, and limits are each process's share.",
            kind=Kind.SERIES,
            asks=(promql(f"60 * (sum(rate(vla_limiter_fallback_total[{traffic.WINDOW}])) or vector(0))", "by local share"),),
            unit="short",
            width=8,
            scale=none_is_good(),
        ),
        Panel(
            title="Messages out, per minute",
            means=(
                "E-mails and webhooks by how an attempt ended. dead needs a person: `vlaapi mails list`, `vlaapi webhooks list`."
            ),
            kind=Kind.SERIES,
            asks=(
                promql(f"60 * (sum(rate(vla_mails_total[{traffic.WINDOW}])) or vector(0))", "mails"),
                promql(f"60 * (sum(rate(vla_webhooks_total[{traffic.WINDOW}])) or vector(0))", "webhooks"),
                promql(
                    f'60 * (sum(rate(vla_mails_total{{outcome="dead"}}[{traffic.WINDOW}])) or vector(0)) '
                    f'+ 60 * (sum(rate(vla_webhooks_total{{outcome="dead"}}[{traffic.WINDOW}])) or vector(0))',
                    "dead",
                ),
            ),
            unit="short",
            width=8,
            scale=PLAIN,
        ),
    ),
)

WATCHED = Row(
    title="What the worker looks after",
    panels=(
        Panel(
            title="Stores that the worker reaches",
            means="1: reached. Robots may still be served while one is away (docs/OPERATIONS.md), but not for long.",
            kind=Kind.BARS,
            asks=(promql("min by (store) (vla_store_up)", "{{store}}", is_now=True),),
            unit="short",
            width=8,
            height=5,
            high=1,
            decimals=0,
            scale=above(0.5, 1),
        ),
        Panel(
            title="Given up, waits for a person",
            means="Usage events, mails and webhooks that no retry will help; `vlaapi usage`, `mails` and `webhooks` list them.",
            kind=Kind.BARS,
            asks=(promql("max by (kind) (vla_dead)", "{{kind}}", is_now=True),),
            unit="short",
            width=8,
            height=5,
            high=1,
            decimals=0,
            scale=none_is_good(),
        ),
        Panel(
            title="Newest backup",
            means="Its age. Older than 26 hours, or none at all, is an alert.",
            kind=Kind.STAT,
            asks=(promql("max(vla_backup_age_seconds) < +Inf", is_now=True),),
            unit="s",
            width=4,
            height=5,
            decimals=1,
            scale=below(25 * 3600, 26 * 3600),
            when_empty="no backup",
            has_graph=False,
        ),
        Panel(
            title="Spiking customers",
            means="Who ask far more than they used to: more capacity, or a robot gone wild. The Customers dashboard names them.",
            kind=Kind.STAT,
            asks=(promql("max(vla_customers_spiking)"),),
            unit="short",
            width=4,
            height=5,
            decimals=0,
            scale=below(1, 3),
        ),
    ),
)
