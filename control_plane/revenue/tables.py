"""The report as CSV, for spreadsheets: one file for the months, one each for customers, tiers and movements of the month.

Amounts are in the currency's major unit with all its decimals. A name that a spreadsheet would take for a formula gets an
apostrophe in front, as spreadsheets themselves write it.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from billing.money import CURRENCIES, as_decimal
from control_plane.revenue.figures import Figures, RevenueMonth

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(figures: Figures) -> Mapping[str, str]:
    """Text by name: months, customers, tiers, movements, usage."""
    return {
        "months": _months(figures),
        "customers": _written(
            ["currency", "customer", "tier", "fees", "usage", "credited", "revenue", "share_pct"],
            (
                [
                    c.currency,
                    c.company_name,
                    c.tier,
                    *_amounts(c.currency, c.fees_cents, c.usage_cents),
                    *_amounts(c.currency, c.credited_cents, c.revenue_cents),
                    c.share_pct,
                ]
                for c in figures.customers
            ),
        ),
        "tiers": _written(
            ["currency", "tier", "customers", "revenue", "share_pct"],
            ([t.currency, t.tier, t.customers, *_amounts(t.currency, t.revenue_cents), t.share_pct] for t in figures.tiers),
        ),
        "movements": _written(
            ["customer", "tier", "movement", "mrr_movement", "currency", "mrr_start", "mrr_end"],
            (
                [
                    m.company_name,
                    m.tier,
                    m.movement,
                    m.mrr_movement,
                    m.currency,
                    *_amounts(m.currency, m.mrr_start_cents, m.mrr_end_cents),
                ]
                for m in figures.movements
            ),
        ),
        "usage": _written(
            ["customer", "tier", *(f"{month:%Y-%m}" for month in figures.months), "growth_pct"],
            ([u.company_name, u.tier, *u.calls, u.growth_pct] for u in figures.usage),
        ),
    }


def _months(figures: Figures) -> str:
    """A line a month and currency; what does not depend on the currency is said on each."""
    service = {month.month: month for month in figures.service}
    money = ["revenue", "fees", "usage", "credited", "mrr", "arpu", "gpu_cost", "server_cost", "gross_margin", "forecast"]
    counts = ["active_at_start", "new", "returned", "churned", "active_at_end", "paying_at_end", "requests", "billable_requests"]
    rates = ["churn_pct", "paying_churn_pct", "requests_growth_pct"]
    head = ["month", "currency", "state", *money, "revenue_growth_pct", "mrr_growth_pct", "gross_margin_pct", *counts, *rates]
    rows = (
        [
            f"{month.month:%Y-%m}",
            month.currency,
            "closed" if month.is_closed else "running" if month.is_running else "open",
            *_month_amounts(month),
            *(month.revenue_growth_pct, month.mrr_growth_pct, month.margin_pct),
            *(getattr(service[month.month], name) for name in (*counts, *rates)),
        ]
        for months in figures.revenue.values()
        for month in months
    )
    return _written(head, rows)


def _month_amounts(month: RevenueMonth) -> list[object]:
    own = (month.revenue_cents, month.fees_cents, month.usage_cents, month.credited_cents, month.mrr_cents, month.arpu_cents)
    cost = (month.gpu_cents, month.server_cents, month.margin_cents, month.forecast_cents)
    return _amounts(month.currency, *own, *cost)


def _amounts(currency: str, *cents: int | None) -> list[object]:
    places = CURRENCIES[currency]
    return ["" if each is None else f"{as_decimal(each, currency):.{places}f}" for each in cents]


def _written(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([_plain(value) for value in row] for row in rows)
    return text.getvalue()


def _plain(value: object) -> object:
    """Names only: an amount may begin with a minus sign."""
    if value is None:
        return ""
    is_name = isinstance(value, str) and not value.replace(".", "").replace("-", "").isdigit()
    return f"'{value}" if is_name and str(value).startswith(_FORMULA) else value
