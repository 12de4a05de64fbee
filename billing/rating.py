"""From usage to rated lines: what one customer's invoice of a month says, before it has a number. Values in, values out.

A fee is the month's price times its share of the month, by the second. Metered usage is rated per segment on its running total: a
later line of the same segment is the price of the new total less what was asked for already, so that late requests and
corrections cost what they would have cost in time. Each line is rounded once; one fee cut in parts is split by largest remainder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from uuid import UUID

from billing.money import round_cents, whole_parts
from billing.segments import Segment, midnight, next_month
from billing.terms import ALL_BASIS_POINTS
from billing.wording import carried_words, commitment_words, discount_words, fee_words, usage_words


class LineKind(StrEnum):
    """What a line asks for."""

    FEE = "fee"
    COMMITMENT = "commitment"
    USAGE = "usage"
    OVERAGE = "overage"
    DISCOUNT = "discount"
    CARRIED = "carried"


METERED = frozenset({LineKind.USAGE, LineKind.OVERAGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an invoice. `quantity` is requests; `service_month` when they were made."""

    kind: LineKind
    description: str
    currency: str
    service_month: date
    starts_at: datetime
    ends_at: datetime
    amount_cents: int
    subscription_id: UUID | None = None
    tier: str | None = None
    price_version: str | None = None
    is_late: bool = False
    quantity: int | None = None
    unit_cents: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What earlier invoices have asked for in one segment."""

    quantity: int = 0
    amount_cents: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """Requests of one segment to be settled now, beside what was settled before."""

    segment: Segment
    quantity: int
    settled: Settled = Settled()


def rate(month: date, parts: Sequence[Segment], metered: Sequence[Metered]) -> tuple[Line, ...]:
    """Every line of the month's invoice: fees, commitments, usage, what came late, discounts. There may be several currencies."""
    own = [one for one in metered if one.segment.month == month]
    late = [one for one in metered if one.segment.month != month]
    priced = [(part, line) for part in parts for line in (*_fee(part, parts), *_commitment(part))]
    priced += [(one.segment, line) for one in (*own, *late) for line in _usage(one, month)]
    return (*(line for _, line in priced), *_discounts(month, priced))


def metered_cents(segment: Segment, quantity: int) -> int:
    """The price of so many requests in a segment, beyond what its commitment holds. Requests below 0 cost nothing."""
    return round_cents(segment.terms.beyond_cents * max(0, quantity - committed_in(segment)))


def committed_in(segment: Segment) -> int:
    """The committed requests of this part of the month."""
    return round_cents((segment.terms.committed_requests or 0) * segment.share)


def with_balance(lines: Sequence[Line], month: date) -> tuple[Line, ...]:
    """Lines of one currency that add up to 0 at least: what is less is carried to the customer's credit."""
    total = sum(line.amount_cents for line in lines)
    if total >= 0:
        return tuple(lines)
    carried = Line(
        kind=LineKind.CARRIED,
        description=carried_words(),
        currency=lines[0].currency,
        service_month=month,
        starts_at=midnight(month),
        ends_at=midnight(next_month(month)),
        amount_cents=-total,
    )
    return (*lines, carried)


def _fee(part: Segment, parts: Sequence[Segment]) -> tuple[Line, ...]:
    """Parts at one price are one fee that is split, so that a month cut in two costs what the whole costs."""
    price = (part.terms.currency, part.terms.monthly_cents)
    together = [other for other in parts if (other.terms.currency, other.terms.monthly_cents) == price]
    cents = whole_parts([other.terms.monthly_cents * other.share for other in together])
    if not part.terms.monthly_cents * part.share:
        return ()
    line = _line(part, LineKind.FEE, cents[together.index(part)])
    return (replace(line, description=fee_words(part), unit_cents=Decimal(part.terms.monthly_cents)),)


def _commitment(part: Segment) -> tuple[Line, ...]:
    committed, unit = committed_in(part), part.terms.per_request_cents
    if not committed:
        return ()
    line = _line(part, LineKind.COMMITMENT, round_cents(unit * committed))
    return (replace(line, description=commitment_words(part, committed), quantity=committed, unit_cents=unit),)


def _usage(one: Metered, month: date) -> tuple[Line, ...]:
    """What the new total costs more than the settled one. No line where nothing was used and nothing changes."""
    segment, total = one.segment, one.settled.quantity + one.quantity
    cents = metered_cents(segment, total) - one.settled.amount_cents
    if not one.quantity and not cents:
        return ()
    committed, is_late = committed_in(segment), segment.month != month
    line = _line(segment, LineKind.OVERAGE if committed else LineKind.USAGE, cents)
    words = usage_words(segment, committed, is_late=is_late)
    return (replace(line, description=words, is_late=is_late, quantity=one.quantity, unit_cents=segment.terms.beyond_cents),)


def _discounts(month: date, priced: Sequence[tuple[Segment, Line]]) -> tuple[Line, ...]:
    """One line for each currency and discount, rounded once."""
    sums: dict[tuple[str, int], int] = {}
    for segment, line in priced:
        key = (line.currency, segment.terms.discount_basis_points)
        sums[key] = sums.get(key, 0) + line.amount_cents
    return tuple(
        Line(
            kind=LineKind.DISCOUNT,
            description=discount_words(basis_points),
            currency=currency,
            service_month=month,
            starts_at=midnight(month),
            ends_at=midnight(next_month(month)),
            amount_cents=-round_cents(Fraction(cents * basis_points, ALL_BASIS_POINTS)),
        )
        for (currency, basis_points), cents in sums.items()
        if basis_points and cents
    )


def _line(segment: Segment, kind: LineKind, cents: int) -> Line:
    return Line(
        kind=kind,
        description="",
        currency=segment.terms.currency,
        service_month=segment.month,
        starts_at=segment.starts_at,
        ends_at=segment.ends_at,
        amount_cents=cents,
        subscription_id=segment.subscription.id,
        tier=segment.terms.tier.value,
        price_version=segment.terms.price_version,
    )
