"""How many requests a spend cap leaves room for: a sum of money as a number of requests, so that one counter can hold it.

Exact: one request more than `most_billable` says would cost more than the cap. Knows no customer and no store.
"""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

from billing.money import round_cents
from billing.rating import LineKind, committed_in, rate
from billing.segments import Segment

_ALL_BASIS_POINTS = 10_000
_HALF = Decimal("0.5")


def most_billable(
    cap_cents: int, *, fixed_cents: int, per_request_cents: Decimal, included: int = 0, discount_basis_points: int = 0
) -> int | None:
    """The most billable requests of a month whose charge is at most the cap. None: requests cost nothing.

    `fixed_cents` is what the month costs before any request is metered; `included` requests cost nothing more, so they fit under
    any cap, also one below what is fixed.
    """
    if not per_request_cents or discount_basis_points >= _ALL_BASIS_POINTS:
        return None
    room_cents = _before_discount(cap_cents, discount_basis_points) - fixed_cents
    if room_cents < 0:
        return included
    # The line is rounded to whole cents and the room is whole: up to half a cent more than the room still rounds down to it.
    exact = (room_cents + _HALF) / per_request_cents
    fitting = int(exact.to_integral_value(ROUND_CEILING)) - 1  # exactly half a cent more rounds up
    return included + fitting


def most_billable_in(cap_cents: int, parts: Sequence[Segment]) -> int | None:
    """The same for a month as it is rated: with the customer's own prices, commitment and discount.

    Exact while one price holds. In a month cut in several, the dearest price, the smallest commitment and the smallest discount
    count for all of it, and a cent per part for rounding: too early, never too late.
    """
    lines = rate(parts[0].month, parts, ())
    fixed_cents = sum(line.amount_cents for line in lines if line.kind is not LineKind.DISCOUNT)
    return most_billable(
        cap_cents,
        fixed_cents=fixed_cents + (len(parts) if len(parts) > 1 else 0),
        per_request_cents=max(part.terms.beyond_cents for part in parts),
        included=min(map(committed_in, parts)),
        discount_basis_points=min(part.terms.discount_basis_points for part in parts),
    )


def _before_discount(cap_cents: int, basis_points: int) -> int:
    """The largest sum that is at most the cap when the discount is taken off.

    The quotient rounded down is never too much: its discount is at least the whole number by which it is above the cap.
    """
    if not basis_points:
        return cap_cents
    gross = cap_cents * _ALL_BASIS_POINTS // (_ALL_BASIS_POINTS - basis_points)
    while _discounted(gross + 1, basis_points) <= cap_cents:
        gross += 1
    return gross


def _discounted(cents: int, basis_points: int) -> int:
    return cents - round_cents(Decimal(cents * basis_points) / _ALL_BASIS_POINTS)
