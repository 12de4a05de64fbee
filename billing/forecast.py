"""What the month will have been used at its end, if it goes on as it has gone so far. Knows no price."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

from billing.money import round_cents
from billing.rating import Metered
from billing.segments import Segment

_SECOND = timedelta(seconds=1)


def forecast(parts: Sequence[Segment], metered: Sequence[Metered], now: datetime) -> tuple[Metered, ...]:
    """The same usage, and for the rest of the month more of it at the pace since the month, or the customer, began."""
    begun = [part.starts_at for part in parts if part.is_paid and part.starts_at < now]
    elapsed = (now - begun[0]) // _SECOND if begun else 0
    if not elapsed:
        return tuple(metered)
    own = {one.segment: one for one in metered if one.segment in parts}
    used = sum(one.quantity for one in own.values())
    late = [one for one in metered if one.segment not in own]
    return (*(_extended(part, own.get(part), Fraction(used, elapsed), now) for part in parts), *late)


def _extended(part: Segment, one: Metered | None, per_second: Fraction, now: datetime) -> Metered:
    one = one or Metered(segment=part, quantity=0)
    left = max(0, (part.ends_at - max(now, part.starts_at)) // _SECOND)
    return replace(one, quantity=one.quantity + (round_cents(per_second * left) if part.is_paid else 0))
