"""The breaker: closed, open, and one try at a time."""

from control_plane.breaker import Breaker


class Clock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_everyone_may_try_while_the_server_answers() -> None:
    breaker = Breaker()
    assert [breaker.may_try() for _ in range(3)] == [True, True, True]
    assert not breaker.is_open


def test_nobody_tries_during_the_pause_after_a_failure() -> None:
    breaker = Breaker(pause_s=1, clock=Clock())
    breaker.failed()
    assert breaker.is_open
    assert not breaker.may_try()


def test_after_the_pause_one_caller_tries_and_the_others_wait() -> None:
    clock = Clock()
    breaker = Breaker(pause_s=1, clock=clock)
    breaker.failed()
    clock.now_s += 1
    assert [breaker.may_try() for _ in range(3)] == [True, False, False]


def test_a_try_that_is_never_reported_lapses() -> None:
    clock = Clock()
    breaker = Breaker(pause_s=1, clock=clock)
    breaker.failed()
    clock.now_s += 1
    assert breaker.may_try()
    clock.now_s += 1
    assert breaker.may_try()


def test_success_closes_it() -> None:
    clock = Clock()
    breaker = Breaker(pause_s=1, clock=clock)
    breaker.failed()
    clock.now_s += 1
    assert breaker.may_try()
    breaker.succeeded()
    assert [breaker.may_try() for _ in range(2)] == [True, True]


def test_who_wants_to_know_is_told_of_changes_only() -> None:
    told: list[int] = []
    breaker = Breaker(pause_s=0, changed=told.append)
    for happened in (breaker.succeeded, breaker.failed, breaker.failed, breaker.succeeded, breaker.succeeded, breaker.failed):
        happened()
    assert told == [1, 0, 1]
