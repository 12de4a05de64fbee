"""What the identity tests share: stores, rows to find, and Authenticators over them."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import event, insert
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.customers.tables import customer_accounts
from control_plane.db import create_engine
from control_plane.errors import ApiError
from control_plane.identity.api_key import digest_of, mint_key, start_of
from control_plane.identity.authenticate import Authenticator
from control_plane.keys.tables import api_keys
from control_plane.metrics import Metrics, create_metrics
from control_plane.redis import create_redis

PEPPER = b"a pepper that is only used by tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedKey:
    """A key that exists."""

    text: str
    id: UUID
    customer_id: UUID

    @property
    def header(self) -> str:
        """As a client sends it."""
        return f"Bearer {self.text}"

    @property
    def digest(self) -> bytes:
        """As it is stored."""
        return digest_of(self.text, pepper=PEPPER)


AddKey = Callable[..., Awaitable[AddedKey]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """An Authenticator, and what can be seen of it from outside."""

    authenticator: Authenticator
    metrics: Metrics
    redis: Redis
    statements: list[str]  # what PostgreSQL was asked

    async def code(self, header: str | None) -> str:
        """How a check ends: "ok" or the error's code."""
        try:
            await self.authenticator.authenticate(header)
        except ApiError as error:
            return error.kind.code
        return "ok"

    def count(self, source: str, outcome: str) -> float:
        """How many checks ended so."""
        return self.metrics.registry.get_sample_value("vla_auth_total", {"source": source, "outcome": outcome}) or 0.0


Observing = Callable[..., AbstractAsyncContextManager[Observed]]


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """The session's database."""
    engine = create_engine(postgres_url, timeout_s=10)
    yield engine
    await engine.dispose()


@pytest.fixture
async def redis(clean_redis_url: str) -> AsyncIterator[Redis]:
    """The session's Valkey, emptied."""
    client = create_redis(clean_redis_url, timeout_s=10)
    yield client
    await client.aclose()


@pytest.fixture
def add_key(engine: AsyncEngine) -> AddKey:
    """Adds a customer with one key, as rows."""

    async def add(
        *, is_active: bool = True, revoked_at: datetime | None = None, expires_at: datetime | None = None, **customer: object
    ) -> AddedKey:
        key = AddedKey(text=mint_key(), id=uuid4(), customer_id=uuid4())
        account = {"company_name": "Acme Robotics", "email": f"{secrets.token_hex(8)}@example.com", "tier": "pro"} | customer
        async with engine.begin() as connection:
            await connection.execute(insert(customer_accounts).values(id=key.customer_id, is_active=is_active, **account))
            await connection.execute(
                insert(api_keys).values(
                    id=key.id,
                    customer_id=key.customer_id,
                    digest=key.digest,
                    start=start_of(key.text),
                    name="default",
                    revoked_at=revoked_at,
                    expires_at=expires_at,
                )
            )
        return key

    return add


@pytest.fixture
def observing(postgres_url: str, clean_redis_url: str) -> Observing:
    """Makes Authenticators, each with its own engine, client and metrics, as another process would have."""

    @asynccontextmanager
    async def observe(
        *, postgres: str = postgres_url, redis: str = clean_redis_url, cache_s: float = 5.0, timeout_s: float = 10.0
    ) -> AsyncIterator[Observed]:
        async with AsyncExitStack() as stack:
            engine = create_engine(postgres, timeout_s=timeout_s)
            stack.push_async_callback(engine.dispose)
            client = create_redis(redis, timeout_s=timeout_s, pause_s=0)
            stack.push_async_callback(client.aclose)
            metrics = create_metrics()
            made = Authenticator(engine=engine, redis=client, pepper=PEPPER, cache_s=cache_s, metrics=metrics)
            stack.push_async_callback(made.close)
            yield Observed(authenticator=made, metrics=metrics, redis=client, statements=_heard(engine))

    return observe


def _heard(engine: AsyncEngine) -> list[str]:
    statements: list[str] = []

    def note(*event_arguments: Any) -> None:
        statements.append(event_arguments[2])

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    return statements
