"""What the usage tests share: a captured log, metrics, clients, a database and a customer of each test's own."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import pytest
import structlog
from redis.asyncio import Redis
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from control_plane.metrics import Metrics, create_metrics
from control_plane.redis import create_redis
from tests.control_plane.usage.making import make_customer


@dataclass
class Lines:
    """What was logged."""

    entries: list[EventDict] = field(default_factory=list)

    def keep(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """A structlog processor that keeps the line and drops it."""
        self.entries.append({**event, "level": method})
        raise structlog.DropEvent

    def said(self, event: str) -> list[EventDict]:
        """The lines with that text."""
        return [entry for entry in self.entries if entry["event"] == event]


@pytest.fixture
def lines() -> Lines:
    """The captured log."""
    return Lines()


@pytest.fixture
def log(lines: Lines) -> FilteringBoundLogger:
    """A log that writes to `lines`."""
    made: FilteringBoundLogger = structlog.wrap_logger(
        None, processors=[lines.keep], wrapper_class=structlog.make_filtering_bound_logger("debug")
    )
    return made


@pytest.fixture
def metrics() -> Metrics:
    """Series of this test's own."""
    return create_metrics()


@pytest.fixture
async def redis(clean_redis_url: str) -> AsyncIterator[Redis]:
    """A client of the emptied session server, as the worker's."""
    client = create_redis(clean_redis_url, timeout_s=5.0)
    yield client
    await client.aclose()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's own database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def customer_id(database: asyncpg.Connection) -> UUID:
    """A customer of the pro tier."""
    return await make_customer(database)
