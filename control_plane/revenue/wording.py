"""Figures as people read them: money with its sign, growth with its direction, and a dash where there is nothing to say."""

from datetime import date
from decimal import Decimal

from billing.money import CURRENCIES, as_decimal

NOTHING = "–"

_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


def money(cents: int | None, currency: str) -> str:
    """`$2,864.50`, `-€3.00`, `CHF 12.00`."""
    if cents is None:
        return NOTHING
    amount = f"{as_decimal(abs(cents), currency):,.{CURRENCIES[currency]}f}"
    return f"{'-' if cents < 0 else ''}{_SIGNS.get(currency, f'{currency} ')}{amount}"


def short_money(cents: int | None, currency: str) -> str:
    """For a card or an axis: `$45,800`, `$1.2M`."""
    if cents is None:
        return NOTHING
    amount = as_decimal(abs(cents), currency)
    return f"{'-' if cents < 0 else ''}{_SIGNS.get(currency, f'{currency} ')}{_short(amount)}"


def short_count(count: int | None) -> str:
    """`2.1M`, `46,631`."""
    return NOTHING if count is None else _short(Decimal(count))


def percent(value: Decimal | None) -> str:
    """`28.0 %`."""
    return NOTHING if value is None else f"{value:.1f} %"


def growth(value: Decimal | None) -> str:
    """`+12.0 %`; a dash where there was nothing before."""
    if value is None:
        return NOTHING
    return f"{value:+.1f} %" if round(value, 1) else "0.0 %"


def month_name(month: date) -> str:
    """`November 2026`, whatever the machine's language is."""
    return f"{_NAMES[month.month - 1]} {month.year}"


def short_month(month: date) -> str:
    """`Nov`, with the year in January."""
    name = _NAMES[month.month - 1][:3]
    return f"{name} {month.year}" if month.month == 1 else name


def _short(amount: Decimal) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M")):
        if amount >= size:
            return f"{amount / size:.2f}".rstrip("0").rstrip(".") + letter
    return f"{amount:,.0f}"


_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
