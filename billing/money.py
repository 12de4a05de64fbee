"""Money: whole minor units ("cents") of a currency, rounded in one place and split without a cent lost. Knows no price.

Exact amounts are `Fraction` or `Decimal`, never a float; half a cent goes away from zero, as people round on paper.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

# How many decimals a currency has (ISO 4217). What is not here cannot be invoiced.
CURRENCIES: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "INR", "MXN"), 2),
        **dict.fromkeys(("NOK", "NZD", "PLN", "RON", "SEK", "SGD", "THB", "TRY", "TWD", "USD", "ZAR"), 2),
        **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "VND"), 0),
        **dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 3),
    }
)


def round_cents(exact_cents: Decimal | Fraction) -> int:
    """Whole cents, half a cent away from zero."""
    exact = Fraction(exact_cents)
    whole, rest = divmod(abs(exact), 1)
    rounded = whole + (rest >= Fraction(1, 2))
    return rounded if exact >= 0 else -rounded


def whole_parts(exact_cents: Sequence[Fraction]) -> tuple[int, ...]:
    """Whole cents for each part, adding up to the rounded sum (largest remainder; equal remainders: the earlier part first).

    No part moves by a cent or more, and parts that are whole already stay.
    """
    floors = [exact // 1 for exact in exact_cents]
    missing = round_cents(sum(exact_cents, Fraction(0))) - sum(floors)
    by_remainder = sorted(range(len(floors)), key=lambda index: (floors[index] - exact_cents[index], index))
    for index in by_remainder[:missing]:
        floors[index] += 1
    return tuple(floors)


def split(total_cents: int, weights: Sequence[int]) -> tuple[int, ...]:
    """The total in proportion to weights ≥ 0, adding up to it exactly. Raises ValueError when all weights are 0."""
    whole = sum(weights)
    if not whole:
        raise ValueError("nothing to split by: every weight is 0")
    return whole_parts([Fraction(total_cents * weight, whole) for weight in weights])


def as_decimal(cents: int | Decimal, currency: str) -> Decimal:
    """In the currency's major unit: 286450 US cents are 2864.50."""
    return Decimal(cents).scaleb(-CURRENCIES[currency])


def as_text(cents: int, currency: str) -> str:
    """For people: `USD 2,864.50`, `-USD 3.00`."""
    return f"{'-' if cents < 0 else ''}{currency} {as_decimal(abs(cents), currency):,.{CURRENCIES[currency]}f}"


def unit_text(cents: Decimal, currency: str) -> str:
    """A unit price with all its decimals, and at least those of the currency: `USD 0.01`, `USD 0.0025`."""
    price = as_decimal(cents, currency).normalize()
    exponent = price.as_tuple().exponent
    decimals = max(CURRENCIES[currency], -exponent if isinstance(exponent, int) else 0)
    return f"{currency} {price:,.{decimals}f}"
