"""The month at its end, if it goes on as it has gone."""

from datetime import date

from billing.forecast import forecast
from billing.segments import segments
from billing.tiers import Tier
from tests.billing.making import LISTED, MONTH, at, subscription, used, whole_month


def test_half_the_month_is_half_the_requests() -> None:
    part = whole_month()
    (one,) = forecast([part], [used(part, 1_000)], at(16))
    assert one.quantity == 2_000


def test_a_planned_change_takes_its_part() -> None:
    parts = segments([subscription(1, at(1)), subscription(2, at(21), Tier.ENTERPRISE)], LISTED, MONTH)
    first, second = forecast(parts, [used(parts[0], 1_000)], at(11))
    assert (first.quantity, second.quantity) == (2_000, 1_000)


def test_who_began_in_the_month_is_measured_from_there() -> None:
    parts = segments([subscription(1, at(16))], LISTED, MONTH)
    assert [one.quantity for one in forecast(parts, [used(parts[1], 100)], at(21))] == [0, 300]


def test_late_requests_are_not_extrapolated() -> None:
    part, old = whole_month(), segments([subscription(1, at(1))], LISTED, date(2026, 10, 1))[0]
    assert [one.quantity for one in forecast([part], [used(old, 7), used(part, 10)], at(16))] == [20, 7]


def test_before_it_has_begun_nothing_is_known() -> None:
    part = whole_month()
    assert forecast([part], [used(part, 3)], at(1)) == (used(part, 3),)
    assert forecast([], [], at(1)) == ()


def test_at_its_end_it_is_what_it_was() -> None:
    part = whole_month()
    assert forecast([part], [used(part, 3)], at(30, 23, 59, 59))[0].quantity == 3
