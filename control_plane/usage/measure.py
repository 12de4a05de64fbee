"""How much waits in the stream, and for how long: the gauges behind the alert that the recorder is away. Run by the worker."""

from redis.asyncio import Redis

from control_plane.metrics import Metrics
from control_plane.usage.stream import STREAM


async def measure(redis: Redis, metrics: Metrics) -> None:
    """Sets the stream's gauges, by the Redis clock. Raises RedisError."""
    length = await redis.xlen(STREAM)
    oldest: list[tuple[bytes, object]] = await redis.xrange(STREAM, count=1)  # type: ignore[assignment]  # bytes in, bytes out
    metrics.stream_length.set(length)
    if not oldest:
        metrics.stream_oldest_age.set(0)
        metrics.recorder_lag.set(0)
        return
    seconds, microseconds = await redis.time()
    added_ms = int(oldest[0][0].split(b"-")[0])
    metrics.stream_oldest_age.set(max(0.0, seconds + microseconds / 1e6 - added_ms / 1e3))
