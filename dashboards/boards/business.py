"""The Business dashboard: what is earned, by whom, and whether it grows. Every figure is a row of a view (docs/REVENUE.md)."""

from dashboards.boards.board import (
    GREEN,
    PLAIN,
    RED,
    Ask,
    Board,
    Column,
    Kind,
    Panel,
    Row,
    Scale,
    Step,
    Variable,
    above,
    below,
    sql,
)

# The seed's line: what covers the cost of the machines and leaves a profit.
ENOUGH = 30_000
_GROWTH = Scale(base=RED, steps=(Step(at=0, color=GREEN),))
_CURRENCY = "currency = ${currency:sqlstring}"
_MONTHS = "month > (now() AT TIME ZONE 'UTC')::date - interval '13 months'"
_TIME = "month::timestamp AT TIME ZONE 'UTC' AS time"


def _money(column: str) -> Ask:
    return sql(f"SELECT {column} FROM dashboards.revenue_months WHERE is_running AND {_CURRENCY}")


def _service(column: str) -> Ask:
    return sql(f"SELECT {column} FROM dashboards.customer_months WHERE is_running")


def _monthly(columns: str, view: str, condition: str) -> Ask:
    return sql(f"SELECT {_TIME}, {columns} FROM dashboards.{view} WHERE {condition} ORDER BY 1", is_series=True)


def _figure(title: str, means: str, ask: Ask, unit: str = "short", scale: Scale = PLAIN, *, low: float | None = 0.0) -> Panel:
    decimals = 1 if unit == "percent" else 0
    return Panel(
        title=title,
        means=means,
        kind=Kind.STAT,
        asks=(ask,),
        unit=unit,
        width=4,
        height=4,
        low=low,
        decimals=decimals,
        scale=scale,
        has_graph=False,
        when_empty="–",
    )


_THIS_MONTH = Row(
    title="This month ($currency), fees in full, usage so far",
    panels=(
        _figure(
            "Revenue",
            "Fees, usage and commitments of the month, less discounts and credit notes.",
            _money("revenue"),
            "locale",
            above(ENOUGH / 2, ENOUGH),
        ),
        _figure("Revenue growth", "Against the whole last month.", _money("revenue_growth_pct"), "percent", _GROWTH, low=-100),
        _figure(
            "Forecast",
            "The month as it will be if it goes on at its pace.",
            _money("forecast"),
            "locale",
            above(ENOUGH / 2, ENOUGH),
        ),
        _figure("MRR", "What the plans in force are worth in a full month, without usage.", _money("mrr"), "locale"),
        _figure("Revenue per paying customer", "Revenue by customers whose revenue is not 0.", _money("arpu"), "locale"),
        _figure(
            "Margin",
            "Revenue less GPUs and servers (VLA_GPU_COST_CENTS_PER_H, VLA_SERVER_COST_CENTS_PER_H), in per cent.",
            _money("margin_pct"),
            "percent",
            above(0, 30),
            low=-100,
        ),
        _figure("Customers", "Accounts with an active plan, of whatever tier.", _service("active_at_end")),
        _figure("New customers", "Active now and never before this month.", _service("new")),
        _figure(
            "Churn",
            "Customers who left, out of those of the first day. 5 % is the line.",
            _service("churn_pct"),
            "percent",
            below(3, 5),
        ),
        _figure("API calls", "All requests of the month, test keys left out.", _service("requests")),
        _figure(
            "Growth of calls", "Against the whole last month.", _service("requests_growth_pct"), "percent", _GROWTH, low=-100
        ),
        _figure(
            "Calls per calling customer",
            "A rise says that customers find it worth using more.",
            _service("round(requests::numeric / NULLIF(calling, 0)) AS calls"),
        ),
    ),
)

_COURSE = Row(
    title="Month by month",
    panels=(
        Panel(
            title="Revenue by month ($currency)",
            means="Fees and usage by the ledger. The line is what covers the machines with a profit.",
            kind=Kind.SERIES,
            asks=(_monthly("fees, usage", "revenue_months", f"{_MONTHS} AND {_CURRENCY}"),),
            unit="locale",
            width=12,
            scale=Scale(base=GREEN, steps=(Step(at=ENOUGH, color=GREEN),), is_line=True),
            is_stacked=True,
            is_bars=True,
        ),
        Panel(
            title="MRR, margin and forecast ($currency)",
            means="MRR at the end of each month, gross margin, and the forecast of the running one.",
            kind=Kind.SERIES,
            asks=(_monthly("mrr, margin, forecast", "revenue_months", f"{_MONTHS} AND {_CURRENCY}"),),
            unit="locale",
            width=12,
            low=None,
            has_points=True,
        ),
        Panel(
            title="Customers by month",
            means="Who came, came back and left, and how many there were at the end. Growing month over month is the aim.",
            kind=Kind.SERIES,
            asks=(_monthly("active_at_end AS active, new, returned, churned", "customer_months", _MONTHS),),
            unit="short",
            width=8,
            has_points=True,
        ),
        Panel(
            title="Churn by month",
            means="Of all customers, and of those who pay. The line is 5 %.",
            kind=Kind.SERIES,
            asks=(
                _monthly(
                    'COALESCE(churn_pct, 0) AS "all customers", COALESCE(paying_churn_pct, 0) AS paying',
                    "customer_months",
                    _MONTHS,
                ),
            ),
            unit="percent",
            width=8,
            scale=below(5, 10, is_line=True),
            has_points=True,
        ),
        Panel(
            title="API calls by month",
            means="All, and those that were answered with an action.",
            kind=Kind.SERIES,
            asks=(_monthly("requests AS calls, billable_requests AS billable", "customer_months", _MONTHS),),
            unit="short",
            width=8,
            has_points=True,
        ),
    ),
)

_WHO = Row(
    title="Who pays",
    panels=(
        Panel(
            title="Top customers by revenue, this month",
            means="Revenue with its parts, and the share of all. One customer above half is a risk.",
            kind=Kind.TABLE,
            asks=(
                sql(f"""
                    SELECT company_name, tier, revenue, fees, usage, share_pct FROM dashboards.revenue_by_customer
                    WHERE month = date_trunc('month', now() AT TIME ZONE 'UTC')::date AND {_CURRENCY}
                    ORDER BY revenue DESC, company_name LIMIT 20
                """),
            ),
            unit="short",
            width=12,
            height=9,
            columns=(
                Column(name="company_name", label="customer", unit="string"),
                Column(name="tier", unit="string"),
                Column(name="revenue", unit="locale", decimals=2),
                Column(name="fees", unit="locale", decimals=2),
                Column(name="usage", unit="locale", decimals=2),
                Column(name="share_pct", label="share", unit="percent", decimals=1, scale=below(35, 50), bar_to=100),
            ),
        ),
        Panel(
            title="Revenue by tier",
            means="Share of this month's revenue. Free customers bring none; they are there to become others.",
            kind=Kind.BARS,
            asks=(
                sql(f"""
                    SELECT tier, share_pct FROM dashboards.revenue_by_tier
                    WHERE month = date_trunc('month', now() AT TIME ZONE 'UTC')::date AND {_CURRENCY} ORDER BY revenue DESC, tier
                """),
            ),
            unit="percent",
            width=6,
            height=9,
            high=100,
            decimals=1,
        ),
        Panel(
            title="Customers by tier",
            means="Active customers.",
            kind=Kind.PIE,
            asks=(sql("SELECT tier, count(*) AS customers FROM customers WHERE is_active GROUP BY tier ORDER BY tier"),),
            unit="short",
            width=6,
            height=9,
        ),
        Panel(
            title="Who came, who left, whose plan changed",
            means="This month and the last. Ask those who left why.",
            kind=Kind.TABLE,
            asks=(
                sql(f"""
                    SELECT to_char(month, 'YYYY-MM') AS month, company_name, tier, movement, mrr_movement, mrr_start, mrr_end
                    FROM dashboards.customer_movements
                    WHERE {_CURRENCY} AND (movement IN ('new', 'returned', 'churned') OR mrr_movement <> 'none')
                        AND month >= date_trunc('month', now() AT TIME ZONE 'UTC')::date - interval '1 month'
                    ORDER BY month DESC, abs(mrr_end - mrr_start) DESC, company_name LIMIT 50
                """),
            ),
            unit="short",
            width=24,
            columns=(
                Column(name="month", unit="string"),
                Column(name="company_name", label="customer", unit="string"),
                Column(name="tier", unit="string"),
                Column(name="movement", unit="string"),
                Column(name="mrr_movement", label="plan", unit="string"),
                Column(name="mrr_start", label="MRR before", unit="locale", decimals=2),
                Column(name="mrr_end", label="MRR now", unit="locale", decimals=2),
            ),
        ),
    ),
)

BUSINESS = Board(
    uid="vlaapi-business",
    title="VLA API: Business",
    means="What is earned, by whom, and whether it grows.",
    since="now-1y",
    refresh="5m",
    rows=(_THIS_MONTH, _COURSE, _WHO),
    variables=(
        Variable(
            name="currency",
            label="Currency",
            ask=sql("SELECT currency FROM dashboards.revenue_months WHERE is_running ORDER BY revenue DESC, currency"),
        ),
    ),
)
