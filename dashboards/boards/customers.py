"""The Customers dashboard: who uses what, who runs out of quota, and one customer from near."""

from dashboards.boards.board import Board, Column, Kind, Panel, Row, Variable, below, sql

# As the product's own guide prints it; `dashboards.customers` is on the reader's search path.
STATEMENT = """
    SELECT company_name, tier, monthly_usage as requests, monthly_quota as limit,
           ROUND(monthly_usage::numeric / monthly_quota * 100, 1) as usage_pct
    FROM customers WHERE is_active = true ORDER BY monthly_usage DESC;
"""
_RANGE = "request_id >= dashboards.id_at($__timeFrom()) AND timestamp BETWEEN $__timeFrom() AND $__timeTo()"
_ONE = "company_name = ${customer:sqlstring}"
_NAME = Column(name="company_name", label="customer", unit="string")
_TIER = Column(name="tier", unit="string")

_ALL = Row(
    title="Everybody",
    panels=(
        Panel(
            title="Active this month",
            means="Customers with at least one billable request since the month began.",
            kind=Kind.STAT,
            asks=(sql("SELECT count(*) AS customers FROM customers WHERE is_active AND monthly_usage > 0"),),
            unit="short",
            width=8,
            height=4,
            decimals=0,
            has_graph=False,
        ),
        Panel(
            title="Above 80 % of the quota",
            means="They will soon be refused, or be ready for the next tier: write to them first.",
            kind=Kind.STAT,
            asks=(sql("SELECT count(*) AS customers FROM customers WHERE is_active AND monthly_usage > 0.8 * monthly_quota"),),
            unit="short",
            width=8,
            height=4,
            decimals=0,
            scale=below(1, 5),
            has_graph=False,
        ),
        Panel(
            title="Silent for a week",
            means="Active, on a paid tier, and without a request in seven days: the first sign that somebody leaves.",
            kind=Kind.STAT,
            asks=(
                sql("""
                    SELECT count(*) AS customers FROM customers c
                    WHERE c.is_active AND c.tier <> 'free' AND NOT EXISTS (
                        SELECT FROM usage_days u
                        WHERE u.customer_id = c.customer_id AND u.day > (now() AT TIME ZONE 'UTC')::date - 7 AND u.requests > 0
                    )
                """),
            ),
            unit="short",
            width=8,
            height=4,
            decimals=0,
            scale=below(1, 5),
            has_graph=False,
        ),
        Panel(
            title="Usage of the month against the quota",
            means=(
                "Billable requests since the month began (UTC). An enterprise customer's quota is what they "
                "committed to, not a limit."
            ),
            kind=Kind.TABLE,
            asks=(sql(STATEMENT),),
            unit="short",
            width=14,
            height=12,
            columns=(
                _NAME,
                _TIER,
                Column(name="requests", unit="locale", decimals=0),
                Column(name="limit", label="quota", unit="locale", decimals=0),
                Column(name="usage_pct", label="used", unit="percent", decimals=1, scale=below(80, 95), bar_to=100),
            ),
        ),
        Panel(
            title="Last hour",
            means="Who is calling now. A sudden leap of one customer may need capacity.",
            kind=Kind.TABLE,
            asks=(
                sql("""
                    SELECT company_name, requests, failed, share_pct FROM customers_last_hour
                    ORDER BY requests DESC, company_name LIMIT 20
                """),
            ),
            unit="short",
            width=10,
            height=12,
            columns=(
                _NAME,
                Column(name="requests", unit="locale", decimals=0),
                Column(name="failed", unit="locale", decimals=0, scale=below(1, 10)),
                Column(name="share_pct", label="share", unit="percent", decimals=1, scale=below(35, 50), bar_to=100),
            ),
        ),
        Panel(
            title="Requests by day",
            means="The eight largest customers of the last thirty days.",
            kind=Kind.SERIES,
            asks=(
                sql(
                    """
                    SELECT day::timestamp AT TIME ZONE 'UTC' AS time, company_name AS metric, sum(requests)::bigint AS requests
                    FROM usage_days WHERE day > (now() AT TIME ZONE 'UTC')::date - 30 AND company_name IN (
                        SELECT company_name FROM usage_days WHERE day > (now() AT TIME ZONE 'UTC')::date - 30
                        GROUP BY company_name ORDER BY sum(requests) DESC LIMIT 8
                    ) GROUP BY 1, 2 ORDER BY 1
                    """,
                    is_series=True,
                ),
            ),
            unit="short",
            width=14,
            is_stacked=True,
            is_bars=True,
            since="30d",
        ),
        Panel(
            title="Change of usage, this month against the last",
            means="The running month is not over yet: late in the month a large minus means that somebody uses less.",
            kind=Kind.TABLE,
            asks=(
                sql("""
                    SELECT company_name, tier, requests, requests_before, growth_pct FROM usage_months
                    WHERE month = date_trunc('month', now() AT TIME ZONE 'UTC')::date
                    ORDER BY requests DESC, company_name LIMIT 50
                """),
            ),
            unit="short",
            width=10,
            columns=(
                _NAME,
                _TIER,
                Column(name="requests", unit="locale", decimals=0),
                Column(name="requests_before", label="last month", unit="locale", decimals=0),
                Column(name="growth_pct", label="growth", unit="percent", decimals=1),
            ),
        ),
    ),
)

_FROM_NEAR = Row(
    title="$customer",
    panels=(
        Panel(
            title="How requests ended",
            means=(
                "In the chosen time. invalid is the customer's own mistake, failed is ours; a high share of "
                "invalid deserves a mail."
            ),
            kind=Kind.TABLE,
            asks=(
                sql(f"""
                    SELECT status, COALESCE(error_code, '') AS code, count(*) AS requests,
                           round(count(*) * 100.0 / sum(count(*)) OVER (), 1) AS share_pct
                    FROM requests WHERE {_RANGE} AND {_ONE} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
                """),
            ),
            unit="short",
            width=8,
            columns=(
                Column(name="status", unit="string"),
                Column(name="code", unit="string"),
                Column(name="requests", unit="locale", decimals=0),
                Column(name="share_pct", label="share", unit="percent", decimals=1, bar_to=100),
            ),
        ),
        Panel(
            title="Latency",
            means="Median and slowest twentieth of the requests that reached a policy.",
            kind=Kind.SERIES,
            asks=(
                sql(
                    f"""
                    SELECT date_bin(make_interval(secs => GREATEST($__interval_ms, 1000) / 1000.0), timestamp, 'epoch') AS time,
                           percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS p50,
                           percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms) AS p95
                    FROM requests WHERE {_RANGE} AND {_ONE} AND compute_ms IS NOT NULL GROUP BY 1 ORDER BY 1
                    """,
                    is_series=True,
                ),
            ),
            unit="ms",
            width=8,
            scale=below(200, 500, is_line=True),
        ),
        Panel(
            title="Requests per minute",
            means="By how they ended.",
            kind=Kind.SERIES,
            asks=(
                sql(
                    f"""
                    SELECT date_bin(make_interval(secs => GREATEST($__interval_ms, 60000) / 1000.0), timestamp, 'epoch') AS time,
                           status AS metric, count(*) * 60000.0 / GREATEST($__interval_ms, 60000) AS requests
                    FROM requests WHERE {_RANGE} AND {_ONE} GROUP BY 1, 2 ORDER BY 1
                    """,
                    is_series=True,
                ),
            ),
            unit="short",
            width=8,
            is_stacked=True,
        ),
    ),
)

CUSTOMERS = Board(
    uid="vlaapi-customers",
    title="VLA API: Customers",
    means="Who uses what, who runs out of quota, and one customer from near.",
    since="now-6h",
    refresh="1m",
    rows=(_ALL, _FROM_NEAR),
    variables=(
        Variable(
            name="customer",
            label="Customer",
            ask=sql("SELECT company_name FROM customers WHERE is_active ORDER BY monthly_usage DESC, company_name"),
        ),
    ),
)
