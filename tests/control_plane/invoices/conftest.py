"""What the invoice tests share: a database of each test's own, verbs over it, customers with usage."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.audit.record import By
from control_plane.db import create_engine
from control_plane.keys.verbs import Stores
from control_plane.redis import create_redis
from tests.control_plane.whole_app import PEPPER


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's own database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on it, as a command's."""
    engine = create_engine(database_url, pool_size=4, timeout_s=30)
    yield engine
    await engine.dispose()


@pytest.fixture
async def stores(engine: AsyncEngine, redis_url: str) -> AsyncIterator[Stores]:
    """What every verb works on."""
    redis = create_redis(redis_url, timeout_s=10)
    yield Stores(engine=engine, redis=redis, pepper=PEPPER.encode(), by=By(actor="test"))
    await redis.aclose()
