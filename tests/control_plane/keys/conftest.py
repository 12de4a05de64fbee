"""What the tests of verbs share: stores over the session's servers."""

import secrets
from collections.abc import AsyncIterator

import pytest

from billing.tiers import Tier
from control_plane.customers.verbs import CreatedCustomer, NewCustomer, create_customer
from control_plane.db import create_engine
from control_plane.keys.verbs import NewKey, Stores
from control_plane.redis import create_redis
from tests.control_plane.identity.conftest import PEPPER, Observing, observing

__all__ = ["Observing", "observing"]


@pytest.fixture
async def stores(postgres_url: str, clean_redis_url: str) -> AsyncIterator[Stores]:
    """What every verb works on."""
    engine = create_engine(postgres_url, timeout_s=10)
    redis = create_redis(clean_redis_url, timeout_s=10)
    yield Stores(engine=engine, redis=redis, pepper=PEPPER)
    await redis.aclose()
    await engine.dispose()


@pytest.fixture
async def stores_without_redis(postgres_url: str) -> AsyncIterator[Stores]:
    """The same, with nothing where Redis should be."""
    engine = create_engine(postgres_url, timeout_s=10)
    redis = create_redis("redis://127.0.0.1:1/0", timeout_s=10)
    yield Stores(engine=engine, redis=redis, pepper=PEPPER)
    await redis.aclose()
    await engine.dispose()


async def a_customer(stores: Stores, *, tier: Tier = Tier.PRO, key: NewKey | None = None) -> CreatedCustomer:
    """A customer of the test's own."""
    new = NewCustomer(company_name="Acme Robotics", email=f"{secrets.token_hex(8)}@example.com", tier=tier)
    return await create_customer(stores, new, key or NewKey())
