"""Which part of the month a day's requests belong to. Roll-ups count by day; a change of plan at noon cuts a day in two.

The roll-up says how many requests a day has; the rows of the log only say how such a day divides. What they cannot say (rows that
are gone, corrections of the day) goes where it is cheapest for the customer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from billing.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One side of a cut day: the rows that the log has there, and how much is settled already."""

    segment: Segment
    rows: int
    settled: int = 0


def shares(unsettled: int, parts: Sequence[Part]) -> tuple[int, ...]:
    """How the day's unsettled requests divide, adding up to them exactly. Negative where a correction takes back."""
    found, left = [], max(0, unsettled)
    for part in parts:
        found.append(min(left, max(0, part.rows - part.settled)))
        left -= found[-1]
    rest = unsettled - sum(found)
    if rest:
        prices = [part.segment.terms.beyond_cents for part in parts]
        found[prices.index(min(prices) if rest > 0 else max(prices))] += rest
    return tuple(found)
