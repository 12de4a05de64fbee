"""Which backups are still wanted: the newest of so many days, weeks and months. Values only, no store.

Periods are counted among those that have a backup, so that a service that stood still for a month loses nothing by it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.backups.manifest import Kind, began_at

_FORM = re.compile(r"(\d{1,4})/(\d{1,4})/(\d{1,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many of each."""

    daily: int
    weekly: int
    monthly: int


def keep_of(text: str) -> Keep:
    """From `7/4/12`. Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None or int(found[1]) < 1:
        raise ValueError("must be three numbers, DAILY/WEEKLY/MONTHLY, with at least one daily")
    return Keep(daily=int(found[1]), weekly=int(found[2]), monthly=int(found[3]))


def unwanted(ids: Sequence[str], keep: Keep) -> list[str]:
    """Those that may go, of one kind or of several: each kind is kept by itself. Names that hold no instant are left alone."""
    wanted: set[str] = set()
    known = {backup_id: at for backup_id in ids if (at := began_at(backup_id)) is not None}
    for kind in Kind:
        newest_first = sorted((name for name in known if name.startswith(f"{kind}-")), key=lambda name: known[name], reverse=True)
        for count, period in ((keep.daily, _day), (keep.weekly, _week), (keep.monthly, _month)):
            wanted |= set(_newest_of_each(newest_first, known, period)[:count])
    return sorted(known.keys() - wanted)


def _newest_of_each(newest_first: Sequence[str], known: dict[str, datetime], period: Callable[[datetime], object]) -> list[str]:
    first: dict[object, str] = {}
    for name in newest_first:
        first.setdefault(period(known[name]), name)
    return list(first.values())


def _day(at: datetime) -> object:
    return at.date()


def _week(at: datetime) -> object:
    return at.isocalendar()[:2]


def _month(at: datetime) -> object:
    return at.year, at.month
