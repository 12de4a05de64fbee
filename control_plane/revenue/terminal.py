"""The report on a terminal: tables as wide as it is. Figures in, printed out."""

from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from control_plane.revenue.figures import Figures, RevenueMonth
from control_plane.revenue.wording import NOTHING, growth, money, month_name, percent

TOP = 10


def print_report(figures: Figures, console: Console) -> None:
    """Every figure of the month, a currency after the other."""
    now = figures.now
    if now is None:
        console.print(f"{month_name(figures.month)}: there were no customers in this month.")
        return
    for currency in figures.revenue:
        month = figures.money(currency)
        if month is not None:
            console.print(_summary(month))
            _print_parts(figures, currency, console)
    service = _table(f"Customers and calls, {month_name(figures.month)}", ("", ""))
    service.add_row("active customers", f"{now.active_at_end:,} ({now.active_at_start:,} at the start)")
    service.add_row("new, back, left", f"{now.new:,}, {now.returned:,}, {now.churned:,}")
    service.add_row("churn", f"{percent(now.churn_pct)} of all, {percent(now.paying_churn_pct)} of paid plans")
    service.add_row("on a paid plan", f"{now.paying_at_end:,}")
    service.add_row("API calls", f"{now.requests:,} ({growth(now.requests_growth_pct)}), {now.billable_requests:,} billable")
    console.print(service)
    _print_usage(figures, console)


def _summary(month: RevenueMonth) -> Table:
    state = "closed" if month.is_closed else "running" if month.is_running else "not closed yet"
    say = partial(money, currency=month.currency)
    table = _table(f"{month_name(month.month)} in {month.currency} ({state})", ("", "this month", "last month", "growth"))
    table.add_row("revenue", say(month.revenue_cents), say(month.revenue_before_cents), growth(month.revenue_growth_pct))
    table.add_row("MRR", say(month.mrr_cents), say(month.mrr_before_cents), growth(month.mrr_growth_pct))
    table.add_row("fees", say(month.fees_cents))
    table.add_row("usage revenue", say(month.usage_cents))
    table.add_row("credited", say(month.credited_cents))
    table.add_row(f"ARPU ({month.payers:,} payers)", say(month.arpu_cents))
    cost = None if month.gpu_cents is None or month.server_cents is None else month.gpu_cents + month.server_cents
    table.add_row("GPUs and servers", say(cost))
    table.add_row("gross margin", say(month.margin_cents), "", percent(month.margin_pct))
    if month.is_running:
        table.add_row("forecast", say(month.forecast_cents))
    return table


def _print_parts(figures: Figures, currency: str, console: Console) -> None:
    tiers = _table(f"Revenue by tier in {currency}", ("tier", "customers", "revenue", "share"))
    for tier in figures.tiers:
        if tier.currency == currency:
            tiers.add_row(tier.tier, f"{tier.customers:,}", money(tier.revenue_cents, currency), percent(tier.share_pct))
    console.print(tiers)
    table = _table(f"Revenue by customer in {currency}", ("customer", "tier", "fees", "usage", "revenue", "share"))
    for one in [customer for customer in figures.customers if customer.currency == currency]:
        cents = (one.fees_cents, one.usage_cents, one.revenue_cents)
        table.add_row(escape(one.company_name), one.tier, *(money(each, currency) for each in cents), percent(one.share_pct))
    console.print(table)


def _print_usage(figures: Figures, console: Console) -> None:
    recent = figures.months[-4:]
    table = _table("Calls per customer", ("customer", "tier", *(f"{month:%Y-%m}" for month in recent), "growth"))
    for one in figures.usage[:TOP]:
        table.add_row(
            escape(one.company_name), one.tier, *(f"{calls:,}" for calls in one.calls[-len(recent) :]), growth(one.growth_pct)
        )
    if len(figures.usage) > TOP:
        table.add_row(f"and {len(figures.usage) - TOP} more", *([NOTHING] * (len(recent) + 2)))
    console.print(table)


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    words = {"", "customer", "tier"}
    for name in columns:
        table.add_column(name, justify="left" if name in words else "right", no_wrap=name not in words)
    return table
