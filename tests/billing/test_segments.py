"""A month is covered without gap or overlap, whatever changes in it, in any month and time zone."""

from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.segments import at, first_of_month, midnight, month_named, month_seconds, next_month, segments
from billing.terms import Subscription
from billing.tiers import Tier
from tests.billing.making import LISTED, MONTH, subscription
from tests.billing.making import at as on

ZONES = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
SECONDS = st.integers(int(datetime(2023, 12, 1, tzinfo=UTC).timestamp()), int(datetime(2028, 4, 1, tzinfo=UTC).timestamp()))
INSTANTS = st.builds(datetime.fromtimestamp, SECONDS.map(lambda second: second + 0.75), ZONES)
CHANGES = st.builds(subscription, st.integers(1, 99), INSTANTS, st.sampled_from(Tier), is_active=st.booleans())
HISTORIES = st.lists(CHANGES, max_size=6)
MONTHS = st.dates(date(2024, 1, 1), date(2028, 3, 31)).map(first_of_month)


@given(HISTORIES, MONTHS)
def test_the_parts_cover_the_month_to_the_second(history: list[Subscription], month: date) -> None:
    parts = segments(history, LISTED, month)
    if not history:
        assert parts == ()
        return
    assert parts[0].starts_at == midnight(month)
    assert parts[-1].ends_at == midnight(next_month(month))
    assert all(one.ends_at == other.starts_at for one, other in pairwise(parts))
    assert sum(part.share for part in parts if part.is_paid) <= 1
    assert all(part.share == 0 for part in parts if not part.is_paid)


@given(HISTORIES.filter(bool), INSTANTS)
def test_at_every_instant_the_last_change_holds(history: list[Subscription], instant: datetime) -> None:
    moment = instant.astimezone(UTC).replace(microsecond=0)
    (part,) = [one for one in segments(history, LISTED, first_of_month(moment.date())) if one.starts_at <= moment < one.ends_at]
    ordered = sorted(history, key=lambda one: (one.effective_at, one.id))
    begun = [one for one in ordered if one.effective_at < moment + timedelta(seconds=1)]
    assert part.subscription == (begun[-1] if begun else ordered[0])
    assert part.is_paid == (bool(begun) and begun[-1].is_active)


def test_a_month_is_named_as_people_write_it_and_no_other_way() -> None:
    assert month_named("2026-11") == date(2026, 11, 1)
    for text in ("2026-13", "0000-01", "9999-12", "2026-1", "2026-11-01", "2026-11\n", "２０２６-11", ""):
        with pytest.raises(ValueError, match="month"):
            month_named(text)


def test_a_leap_february_has_29_days_and_december_is_followed_by_january() -> None:
    assert month_seconds(date(2024, 2, 1)) == 29 * 86_400
    assert next_month(date(2026, 12, 1)) == date(2027, 1, 1)


def test_a_change_in_the_middle_of_a_second_holds_from_its_beginning() -> None:
    change = on(16, 12).replace(microsecond=999_999)
    first, second = segments([subscription(1, on(1)), subscription(2, change, Tier.ENTERPRISE)], LISTED, MONTH)
    assert (first.ends_at, first.share, second.share) == (on(16, 12), Fraction(31, 60), Fraction(29, 60))


def test_a_change_written_in_tokyo_holds_at_the_same_instant() -> None:
    tokyo = timezone(timedelta(hours=9))
    _, second = segments([subscription(1, on(1)), subscription(2, datetime(2026, 11, 17, 8, 30, tzinfo=tokyo))], LISTED, MONTH)
    assert second.starts_at == on(16, 23, 30)


def test_a_day_overlaps_the_parts_that_share_it() -> None:
    parts = segments([subscription(1, on(1)), subscription(2, on(16, 12))], LISTED, MONTH)
    assert [len(at(parts, date(2026, 11, day))) for day in (1, 15, 16, 17, 30)] == [1, 1, 2, 1, 1]


def test_without_a_subscription_a_month_has_no_parts() -> None:
    assert segments([], LISTED, MONTH) == ()
