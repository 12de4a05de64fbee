"""Pauses: being told to stop is heard at once, and a night is one night."""

import asyncio
from datetime import UTC, datetime, time

import pytest

from control_plane.usage.rhythm import pause, seconds_until

NIGHT = time(0, 10)


async def test_a_pause_ends_when_told_to_stop() -> None:
    stop = asyncio.Event()
    pausing = asyncio.create_task(pause(stop, 3600))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(pausing, 30)


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (datetime(2026, 11, 30, 0, 0, tzinfo=UTC), 600),
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), 601),
        (datetime(2026, 11, 30, 0, 10, tzinfo=UTC), 86400),
        (datetime(2026, 12, 31, 12, 0, tzinfo=UTC), 43800),
    ],
)
def test_the_next_night_is_always_ahead(now: datetime, seconds: float) -> None:
    assert seconds_until(NIGHT, now=now) == seconds
