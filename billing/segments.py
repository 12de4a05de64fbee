"""A month cut into the parts in which one price holds: at every change of plan, to the second, and at every version of prices.

The parts cover the whole month without a gap, so each request falls into exactly one. UTC throughout; knows no usage.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

from billing.terms import Subscription, Terms, terms_of
from billing.tiers import PriceVersion, version_on

_SECOND = timedelta(seconds=1)
_MONTH = re.compile(r"[12][0-9]{3}-(0[1-9]|1[0-2])")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One price from `starts_at` until before `ends_at`, whole seconds of one month. `is_paid`: the fee runs."""

    subscription: Subscription
    terms: Terms
    month: date
    starts_at: datetime
    ends_at: datetime
    is_paid: bool

    @cached_property
    def share(self) -> Fraction:
        """Of the month, by the second; 0 where no fee runs."""
        seconds = (self.ends_at - self.starts_at) // _SECOND
        return Fraction(seconds if self.is_paid else 0, month_seconds(self.month))

    @property
    def is_whole_month(self) -> bool:
        """Whether nothing changed in this month."""
        return self.starts_at == midnight(self.month) and self.ends_at == midnight(next_month(self.month))


def month_named(text: str) -> date:
    """The first day of `2026-11`. Raises ValueError for anything else, and for months that no calendar has to the end."""
    if not _MONTH.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a month like 2026-11")
    return date.fromisoformat(f"{text}-01")


def first_of_month(day: date) -> date:
    """The month that holds the day."""
    return day.replace(day=1)


def next_month(month: date) -> date:
    """The month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def midnight(day: date) -> datetime:
    """The first instant of a UTC day."""
    return datetime.combine(day, time(), tzinfo=UTC)


def month_seconds(month: date) -> int:
    """How long that month is; UTC has no summer time and POSIX time no leap seconds."""
    return (next_month(month) - month).days * 86_400


def segments(subscriptions: Sequence[Subscription], versions: Sequence[PriceVersion], month: date) -> tuple[Segment, ...]:
    """The parts of the month, in order; none without a subscription.

    What comes before the first subscription belongs to it without a fee, as does the time in which the account is not active.
    """
    history = sorted(subscriptions, key=lambda one: (one.effective_at, one.id))
    begin, end = midnight(month), midnight(next_month(month))
    cuts = {begin, *(midnight(version.effective_from) for version in versions), *(_second(one) for one in history)}
    if not history:
        return ()
    starts = sorted(cut for cut in cuts if begin <= cut < end)
    return tuple(_segment(history, versions, *span) for span in pairwise([*starts, end]))


def at(parts: Sequence[Segment], day: date) -> tuple[Segment, ...]:
    """The parts that a day overlaps."""
    begin, end = midnight(day), midnight(day + timedelta(days=1))
    return tuple(part for part in parts if part.starts_at < end and part.ends_at > begin)


def _segment(history: Sequence[Subscription], versions: Sequence[PriceVersion], start: datetime, end: datetime) -> Segment:
    begun = [one for one in history if _second(one) <= start]
    one = begun[-1] if begun else history[0]
    return Segment(
        subscription=one,
        terms=terms_of(one.tier, one.own, version_on(versions, start.date())),
        month=first_of_month(start.date()),
        starts_at=start,
        ends_at=end,
        is_paid=bool(begun) and one.is_active,
    )


def _second(subscription: Subscription) -> datetime:
    return subscription.effective_at.astimezone(UTC).replace(microsecond=0)
