"""Waiting for what another process or server will do. The bound is only there so that a failure ends; it asserts no speed."""

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(is_so: Callable[[], Awaitable[object]], *, within_s: float = 100.0, every_s: float = 0.02) -> None:
    """Returns when `is_so` is true. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await is_so():  # noqa: ASYNC110 -- other processes set no event of ours
            await asyncio.sleep(every_s)
