"""Pauses of background work: being told to stop is heard at once, a night is one night. Used by the recorder and the worker."""

import asyncio
from datetime import UTC, datetime, time, timedelta


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleeps, unless told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def seconds_until(at: time, *, now: datetime) -> float:
    """From `now` to the next time the UTC clock shows `at`; never zero, so that one night is one run."""
    today = datetime.combine(now.date(), at, tzinfo=UTC)
    following = today if today > now else today + timedelta(days=1)
    return (following - now).total_seconds()
