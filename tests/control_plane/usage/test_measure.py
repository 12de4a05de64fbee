"""The gauges of the stream."""

from redis.asyncio import Redis

from control_plane.metrics import Metrics
from control_plane.usage.measure import measure
from control_plane.usage.stream import STREAM
from tests.control_plane.usage.making import counted


async def test_an_empty_stream_measures_nothing(redis: Redis, metrics: Metrics) -> None:
    metrics.recorder_lag.set(7)
    await measure(redis, metrics)
    for series in ("vla_stream_length", "vla_stream_oldest_age_seconds", "vla_recorder_lag_seconds"):
        assert counted(metrics, series) == 0


async def test_what_waits_is_counted_and_the_oldest_gives_the_age(redis: Redis, metrics: Metrics) -> None:
    seconds, _ = await redis.time()
    await redis.xadd(STREAM, {"event": b"old"}, id=f"{(seconds - 90) * 1000}-0")
    await redis.xadd(STREAM, {"event": b"new"})
    await measure(redis, metrics)
    assert counted(metrics, "vla_stream_length") == 2
    assert 90 <= counted(metrics, "vla_stream_oldest_age_seconds") < 3600
