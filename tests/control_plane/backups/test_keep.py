"""Which backups stay: the newest of so many days, weeks and months."""

from datetime import UTC, datetime, timedelta

import pytest

from control_plane.backups.keep import Keep, keep_of, unwanted
from control_plane.backups.manifest import Kind, began_at, new_id

LAST = datetime(2026, 11, 27, 3, tzinfo=UTC)


def nightly(count: int, kind: Kind = Kind.DATABASE) -> list[str]:
    """A backup each night up to LAST, oldest first."""
    return [new_id(kind, LAST - timedelta(days=n), owner="a1") for n in reversed(range(count))]


def days_kept(ids: list[str], keep: Keep) -> list[str]:
    gone = set(unwanted(ids, keep))
    return [f"{began_at(name):%m-%d}" for name in ids if name not in gone]


def test_a_year_of_nights_thins_out() -> None:
    kept = days_kept(nightly(365), Keep(daily=3, weekly=3, monthly=4))
    assert kept == ["08-31", "09-30", "10-31", "11-15", "11-22", "11-25", "11-26", "11-27"]


def test_of_several_in_a_day_the_newest_stays() -> None:
    ids = [new_id(Kind.DATABASE, LAST + timedelta(hours=hour), owner="a1") for hour in range(3)]
    assert unwanted(ids, Keep(daily=2, weekly=0, monthly=0)) == sorted(ids[:2])


def test_a_service_that_stood_still_keeps_what_it_has() -> None:
    ids = [new_id(Kind.DATABASE, LAST - timedelta(days=n), owner="a1") for n in (400, 390, 200)]
    assert unwanted(ids, Keep(daily=3, weekly=0, monthly=0)) == []


def test_each_kind_is_kept_by_itself_and_strange_names_are_left_alone() -> None:
    ids = [*nightly(3), *nightly(2, Kind.BASE), "notes"]
    gone = unwanted(ids, Keep(daily=1, weekly=0, monthly=0))
    assert len(gone) == 3
    assert "notes" not in gone


@pytest.mark.parametrize("text", ["", "7", "7/4", "0/4/12", "7/4/12/1", "-1/2/3", "a/b/c"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="DAILY/WEEKLY/MONTHLY"):
        keep_of(text)
