"""Work in several processes comes back in order, is taken only a little ahead, and fails with its own reason."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tabletop.parallel import in_order

pytestmark = pytest.mark.export


@contextmanager
def _opened(fails_at: int | None) -> Iterator[Callable[[int], tuple[int, int]]]:
    if fails_at == -1:
        raise LookupError("cannot be opened here")

    is_open = True

    def answer(number: int) -> tuple[int, int]:
        assert is_open
        if number == fails_at:
            raise LookupError(f"not {number}")
        return number, os.getpid()

    try:
        yield answer
    finally:
        is_open = False


@pytest.mark.parametrize("processes", [1, 2])
def test_answers_come_in_order_and_questions_are_taken_a_little_ahead(processes: int) -> None:
    taken: list[int] = []

    def questions() -> Iterator[tuple[int]]:
        for number in range(20):
            taken.append(number)
            yield (number,)

    answers = in_order(functools.partial(_opened, None), questions(), processes=processes)
    first, pid = next(answers)
    assert (first, len(taken) <= 6 * processes) == (0, True)
    assert (pid == os.getpid()) == (processes == 1)
    assert [number for number, _ in answers] == list(range(1, 20))


@pytest.mark.parametrize(
    ("processes", "fails_at", "reason"), [(1, 3, "not 3"), (2, 3, "not 3"), (2, -1, "cannot be opened here")]
)
def test_what_goes_wrong_in_a_process_is_told_here(processes: int, fails_at: int, reason: str) -> None:
    with pytest.raises(LookupError, match=reason):
        list(in_order(functools.partial(_opened, fails_at), ((number,) for number in range(5)), processes=processes))
