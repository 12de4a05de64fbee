"""One connection to an outside server that all callers share: opened when something is to be asked, and again after it has ended.

All who find none wait for the same try. After `close` nothing is opened any more, and who waits or comes is told so, because a
cancellation would look as if the caller had gone. Knows no protocol: `redis.py` and `unary_grpc/channel.py` say how to open one.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

_AGAIN_S = 0.05  # what redis-py awaits while it connects, Python 3.11's `wait_for`, can swallow a cancellation


class _Closable(Protocol):
    is_open: bool  # whether anything further may be asked on it

    async def close(self) -> None:
        """Ends it; who waits for an answer is told so."""


_T = TypeVar("_T", bound=_Closable)


class KeptOpen(Generic[_T]):
    """`open_` opens one, `closed` makes the exception for those who wait at closing or come after it."""

    def __init__(self, open_: Callable[[], Coroutine[Any, Any, _T]], *, closed: Callable[[], Exception]) -> None:
        self._open = open_
        self._closed = closed
        self._is_closed = False
        self._newest: _T | None = None
        self._all: WeakSet[_T] = WeakSet()  # with those that still end what they had begun; who is finished is forgotten
        self._opening: asyncio.Task[_T] | None = None

    @property
    def at_hand(self) -> _T | None:
        """The open one, if there is one."""
        newest = self._newest
        return newest if newest is not None and newest.is_open else None

    async def close(self) -> None:
        """Ends it for good, and a try that is being made."""
        self._is_closed = True
        while self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening], timeout=_AGAIN_S)
        for one in list(self._all):
            await one.close()

    async def reach(self) -> _T:
        """A new one, by one try for all who ask meanwhile. Raises what `open_` raises, or `closed`'s."""
        if self._is_closed:
            raise self._closed()
        opening = self._opening
        if opening is None or opening.done():
            opening = self._opening = asyncio.create_task(self._try())
            opening.add_done_callback(_seen)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled() and not _is_cancelled():
                raise self._closed() from None
            raise

    async def _try(self) -> _T:
        self._newest = newest = await self._open()
        self._all.add(newest)
        return newest


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _seen(opening: asyncio.Task[Any]) -> None:
    """Everybody who waited may have given up: nobody is left to be told then."""
    if not opening.cancelled():
        opening.exception()
