"""What the limits tests share: a principal with chosen limits, and Limiters over the session's Valkey."""

import secrets
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from billing.tiers import Tier, tier_terms
from control_plane.identity.principal import Principal, RateLimits
from control_plane.limits.admission import Admission
from control_plane.limits.limiter import Limiter
from control_plane.metrics import Metrics, create_metrics
from control_plane.redis import create_redis

MakeLimiter = Callable[..., Limiter]


def limits_of(tier: Tier) -> RateLimits:
    """As the price list has them."""
    terms = tier_terms()[tier]
    return RateLimits(
        per_minute=terms.per_minute, per_day=terms.per_day, per_month=terms.per_month, concurrency=terms.concurrency
    )


def a_principal(*, tier: Tier = Tier.PRO, key_per_minute: int | None = None, **limits: int | None) -> Principal:
    """A customer of their own, with the tier's limits unless said otherwise."""
    terms = limits_of(tier)
    chosen = {name: limits.get(name, getattr(terms, name)) for name in ("per_minute", "per_day", "per_month", "concurrency")}
    return Principal(
        customer_id=uuid4(),
        key_id=uuid4(),
        company_name="Acme Robotics",
        tier=tier,
        limits=RateLimits(**chosen),
        key_per_minute=key_per_minute,
    )


def a_lease() -> str:
    """An id of its own."""
    return secrets.token_hex(8)


async def settle(redis: Redis, admission: Admission) -> None:
    """Ends an admission that counts."""
    pipeline = redis.pipeline(transaction=False)
    admission.settle_into(pipeline)
    await pipeline.execute()


async def give_back(redis: Redis, admission: Admission) -> None:
    """Ends an admission that does not count."""
    pipeline = redis.pipeline(transaction=False)
    admission.give_back_into(pipeline)
    await pipeline.execute()


@pytest.fixture
async def redis(clean_redis_url: str) -> AsyncIterator[Redis]:
    """The session's Valkey, emptied."""
    client = create_redis(clean_redis_url, timeout_s=10)
    yield client
    await client.aclose()


@pytest.fixture
def metrics() -> Metrics:
    """Series of this test's own."""
    return create_metrics()


@pytest.fixture
def limiter(redis: Redis, metrics: Metrics) -> Limiter:
    """A limiter with real minutes."""
    return Limiter(redis=redis, processes=2, metrics=metrics)
