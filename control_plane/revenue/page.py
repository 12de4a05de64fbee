"""The report as one HTML file that needs nothing else: figures in, text out. Jinja escapes every name that a customer chose."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from billing.money import as_decimal
from control_plane.revenue import charts, wording
from control_plane.revenue.charts import Series, Step
from control_plane.revenue.figures import Figures, Movement, RevenueMonth

TOP = 10
_BRIDGE = (
    ("new", "New"),
    ("reactivation", "Back"),
    ("expansion", "Up"),
    ("contraction", "Down"),
    ("churn", "Churn"),
)


def as_html(figures: Figures) -> str:
    """The whole page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "growth": wording.growth,
        "percent": wording.percent,
        "count": lambda number: f"{number:,}",
        "short": wording.short_count,
    }
    environment.globals |= {"money": wording.money, "short_money": wording.short_money, "spark": charts.spark}
    source = resources.files("control_plane.revenue").joinpath("templates/report.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(_values(figures))


def _values(figures: Figures) -> dict[str, Any]:
    now = figures.now
    return {
        "figures": figures,
        "now": now,
        "title": wording.month_name(figures.month),
        "sections": [_section(figures, currency) for currency in figures.revenue],
        "calls": _calls(figures),
        "usage": figures.usage[:TOP],
        "movements": figures.movements,
        "top": TOP,
    }


def _section(figures: Figures, currency: str) -> dict[str, Any]:
    """Everything in one currency."""
    months = figures.revenue[currency]
    month = figures.money(currency)
    say = partial(_say, currency)
    labels = [wording.short_month(each.month) for each in months]
    tiers = [tier for tier in figures.tiers if tier.currency == currency]
    customers = [customer for customer in figures.customers if customer.currency == currency]
    return {
        "currency": currency,
        "month": month,
        "tiers": tiers,
        "widest_tier": max((tier.revenue_cents for tier in tiers), default=0),
        "customers": customers[:TOP],
        "others": customers[TOP:],
        "widest": max((customer.revenue_cents for customer in customers), default=0),
        "revenue_chart": _revenue(months, labels, say),
        "mrr_chart": charts.line([_major(each.mrr_cents, currency) for each in months], labels, say, colour="--fees", name="MRR"),
        "bridge_chart": _bridge(figures.movements, month, say) if month else Markup(""),
        "margin_chart": _margin(months, labels, say),
    }


def _revenue(months: Sequence[RevenueMonth], labels: Sequence[str], say: Callable[[float], str]) -> Markup:
    fees = Series(name="fees", colour="--fees", values=[_major(each.fees_cents, each.currency) for each in months])
    usage = Series(name="usage", colour="--usage", values=[_major(each.usage_cents, each.currency) for each in months])
    return charts.columns([fees, usage], labels, say, is_last_open=bool(months) and months[-1].is_running)


def _margin(months: Sequence[RevenueMonth], labels: Sequence[str], say: Callable[[float], str]) -> Markup:
    """Nothing while nobody has said what the service costs."""
    if all(each.margin_cents is None for each in months):
        return Markup("")
    parts = (("GPUs", "--gpu", "gpu_cents"), ("servers", "--server", "server_cents"), ("gross margin", "--good", "margin_cents"))
    series = [
        Series(name=name, colour=colour, values=[_major(getattr(each, field) or 0, each.currency) for each in months])
        for name, colour, field in parts
    ]
    return charts.columns(series, labels, say, is_last_open=months[-1].is_running)


def _bridge(movements: Sequence[Movement], month: RevenueMonth, say: Callable[[float], str]) -> Markup:
    own = [one for one in movements if one.currency == month.currency]
    start, end = month.mrr_before_cents or 0, month.mrr_cents
    changes = {
        name: sum(one.mrr_end_cents - one.mrr_start_cents for one in own if one.mrr_movement == kind) for kind, name in _BRIDGE
    }
    changes["Other"] = end - start - sum(changes.values())  # a plan moved between currencies, or the price list changed
    steps = [Step(name=name, value=_major(cents, month.currency)) for name, cents in changes.items() if cents]
    levels = [
        Step(name=name, value=_major(cents, month.currency), is_level=True) for name, cents in (("Start", start), ("End", end))
    ]
    return charts.bridge([levels[0], *steps, levels[1]], say)


def _calls(figures: Figures) -> Markup:
    labels = [wording.short_month(each.month) for each in figures.service]
    billable = Series(name="billable", colour="--fees", values=[float(each.billable_requests) for each in figures.service])
    other = Series(
        name="not billable", colour="--server", values=[float(each.requests - each.billable_requests) for each in figures.service]
    )
    return charts.columns([billable, other], labels, lambda value: wording.short_count(round(value)))


def _major(cents: int, currency: str) -> float:
    return float(as_decimal(cents, currency))


def _say(currency: str, value: float) -> str:
    minor = Decimal(str(round(value, 2))) / as_decimal(1, currency)
    return wording.short_money(int(minor), currency)
