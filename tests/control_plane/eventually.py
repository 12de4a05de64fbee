"""Waiting for what another process or server will do. The bound is only there so that a failure ends; it asserts no speed."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(is_so: Callable[[], Awaitable[object]], *, within_s: float = 100.0, every_s: float = 0.02) -> None:
    """Returns when `is_so` is true. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await is_so():  # noqa: ASYNC110 -- other processes set no event of ours
            await asyncio.sleep(every_s)


def until(is_so: Callable[[], object], *, within_s: float = 100.0, every_s: float = 0.05) -> None:
    """The same without an event loop."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(every_s)
