"""Asks a function about one thing after another in several processes, and gives the answers in order.

Never more than a few answers ahead of who reads them: an episode's pictures take megabytes. It knows nothing of the table.
"""

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

T = TypeVar("T")
Opens = Callable[[], AbstractContextManager[Callable[..., T]]]
_AHEAD = 3  # answers waiting, for each process
_here: list[Any] = []  # in a process of the pool: what opens, the function, and who keeps it open


def in_order(opens: Opens[T], arguments: Iterable[tuple[Any, ...]], *, processes: int) -> Iterator[T]:
    """What the function that `opens` gives, once per process, says of each. One process is this one; more are new ones."""
    if processes == 1:
        with opens() as function:
            yield from itertools.starmap(function, arguments)
        return
    remaining, ahead = iter(arguments), deque[Future[T]]()
    spawning = multiprocessing.get_context("spawn")  # OpenGL does not survive a fork
    with ProcessPoolExecutor(processes, spawning, initializer=_begin, initargs=(opens,)) as pool:
        while True:
            taken = itertools.islice(remaining, _AHEAD * processes - len(ahead))
            ahead.extend(pool.submit(_ask, *each) for each in taken)
            if not ahead:
                return
            yield ahead.popleft().result()


def _begin(opens: Opens[Any]) -> None:
    _here[:] = [opens]


def _ask(*each: Any) -> Any:
    if len(_here) == 1:  # opened at the first question, whose answer can be that it cannot be opened
        opened = _here[0]()
        _here.extend((opened.__enter__(), opened))  # who lets go of the second closes what the first works with
    return _here[1](*each)
