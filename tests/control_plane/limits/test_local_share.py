"""What one process admits alone, on a clock that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.limits.admission import Admission
from control_plane.limits.local_share import MINUTE_US, LocalShare
from tests.control_plane.limits.conftest import a_principal


class Clock:
    """Microseconds that only the test moves."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000

    def __call__(self) -> int:
        return self.now_us


def a_pipeline() -> Pipeline:
    """One that goes nowhere; an admission of the share puts nothing into it."""
    return Redis().pipeline()


def admitted(share: LocalShare, principal: Principal) -> Admission | None:
    """The admission, or None."""
    try:
        return share.admit(principal)
    except ApiError:
        return None


def count(share: LocalShare, principal: Principal, *, tries: int = 50) -> int:
    """How many of many tries are admitted at this moment."""
    return sum(admitted(share, principal) is not None for _ in range(tries))


@pytest.mark.parametrize(("processes", "expected"), [(1, 10), (2, 5), (3, 3), (10, 1), (1000, 1)])
def test_the_share_is_the_limit_divided_by_the_processes_and_at_least_one(processes: int, expected: int) -> None:
    assert count(LocalShare(processes=processes, clock_us=Clock()), a_principal(per_minute=10)) == expected


def test_the_share_comes_back_at_the_steady_rate() -> None:
    clock = Clock()
    share, principal = LocalShare(processes=2, clock_us=clock), a_principal(per_minute=10)
    assert count(share, principal) == 5
    clock.now_us += MINUTE_US // 5 - 1
    assert count(share, principal) == 0
    clock.now_us += 1
    assert count(share, principal) == 1
    clock.now_us += MINUTE_US
    assert count(share, principal) == 5


def test_waiting_as_told_is_long_enough() -> None:
    clock = Clock()
    share, principal = LocalShare(processes=1, clock_us=clock), a_principal(per_minute=3, key_per_minute=2)
    assert count(share, principal) == 2
    with pytest.raises(ApiError) as refusal:
        share.admit(principal)
    assert refusal.value.kind.code == "minute_limit"
    assert refusal.value.retry_after_ms is not None
    clock.now_us += refusal.value.retry_after_ms * 1000
    assert count(share, principal) == 1


def test_a_refusal_by_the_keys_cap_does_not_spend_the_customers_share() -> None:
    share = LocalShare(processes=1, clock_us=Clock())
    capped = a_principal(per_minute=5, key_per_minute=1)
    assert count(share, capped) == 1
    uncapped = Principal(**{name: getattr(capped, name) for name in capped.__slots__} | {"key_per_minute": None})
    assert count(share, uncapped) == 4


def test_what_is_given_back_can_be_sent_again_once() -> None:
    share, principal = LocalShare(processes=1, clock_us=Clock()), a_principal(per_minute=4)
    admission = share.admit(principal)
    assert count(share, principal) == 3
    for _ in range(2):
        admission.give_back_into(a_pipeline())
    assert count(share, principal) == 1


def test_what_has_drained_is_not_given_back() -> None:
    clock = Clock()
    share, principal = LocalShare(processes=1, clock_us=clock), a_principal(per_minute=4)
    old = share.admit(principal)
    clock.now_us += MINUTE_US
    assert count(share, principal) == 4
    old.give_back_into(a_pipeline())
    assert count(share, principal) == 0


@given(st.lists(st.integers(min_value=0, max_value=20_000_000), max_size=80), st.integers(min_value=1, max_value=20))
def test_no_stretch_of_time_admits_more_than_burst_and_rate(pauses_us: list[int], per_minute: int) -> None:
    clock = Clock()
    share, principal = LocalShare(processes=1, clock_us=clock), a_principal(per_minute=per_minute)
    admitted_us = []
    for pause_us in pauses_us:
        clock.now_us += pause_us
        if admitted(share, principal):
            admitted_us.append(clock.now_us)
    for first, began_us in enumerate(admitted_us):
        for last, ended_us in enumerate(admitted_us[first:], start=first):
            assert last - first + 1 <= per_minute + (ended_us - began_us) * per_minute / MINUTE_US + 1e-6
