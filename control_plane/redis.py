"""The Redis protocol: one client per process with bounded waits. Knows no key names; limits, identity and usage bring theirs.

Errors that mean "Redis is away" are `REDIS_AWAY`; each caller states what it does then (fail closed, or degrade with a metric).
"""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

REDIS_AWAY = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError)


def create_redis(url: str, *, timeout_s: float, max_connections: int = 256) -> "Redis":
    """A pooled client that answers within `timeout_s` or raises one of REDIS_AWAY. Connects lazily; bytes in, bytes out."""
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        max_connections=max_connections,
        retry=Retry(NoBackoff(), 1),
        health_check_interval=0,
    )
