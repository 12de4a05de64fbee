"""The words on an invoice's lines, in English, dates in UTC. Knows no amount."""

from datetime import datetime, timedelta

from billing.segments import Segment

_DAY = timedelta(days=1)


def fee_words(part: Segment) -> str:
    """`Pro plan`, and which part of the month where it is not all of it."""
    return f"{_plan(part)}{_span(part)}"


def commitment_words(part: Segment, committed: int) -> str:
    """The volume that is paid in any case."""
    return f"{_plan(part)}: committed volume of {committed:,} requests{_span(part)}"


def usage_words(part: Segment, committed: int, *, is_late: bool) -> str:
    """What the requests are, and for which month where they were not on that month's invoice."""
    what = f"requests, the first {committed:,} of {part.month:%B %Y} being committed" if committed else "requests"
    late = f" of {part.month:%B %Y}, recorded or corrected after it was invoiced" if is_late else ""
    return f"{_plan(part)}: {what}{late}{_span(part)}"


def discount_words(basis_points: int) -> str:
    """`Discount 12.5 %`."""
    return f"Discount {basis_points / 100:g} %"


def carried_words() -> str:
    """Where the invoice would be below zero."""
    return "Carried to your credit balance"


def _plan(part: Segment) -> str:
    return f"{part.terms.tier.value.capitalize()} plan"


def _span(part: Segment) -> str:
    return "" if part.is_whole_month else f", {_instant(part.starts_at)} to {_last(part.ends_at)}"


def _instant(at: datetime) -> str:
    return f"{at:%-d %b}" if _is_midnight(at) else f"{at:%-d %b %H:%M:%S}"


def _last(at: datetime) -> str:
    """The end as people read it: the last day where it ends with a day."""
    return _instant(at - _DAY) if _is_midnight(at) else _instant(at)


def _is_midnight(at: datetime) -> bool:
    return (at.hour, at.minute, at.second) == (0, 0, 0)
