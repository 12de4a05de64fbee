"""A Redis that lost everything gets back what PostgreSQL knows; one that holds the only copy of an event is not emptied."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from billing.tiers import Tier
from control_plane.customers.verbs import CreatedCustomer, NewCustomer, create_customer
from control_plane.db import create_engine
from control_plane.identity import known_keys
from control_plane.identity.api_key import digest_of
from control_plane.keys.verbs import NewKey, Stores
from control_plane.limits.look import look
from control_plane.metrics import Metrics
from control_plane.policies import announce
from control_plane.policies.verbs import named, set_enabled
from control_plane.rebuild.redis_contents import EventsWaitError, rebuild
from control_plane.usage.event import TEST_SCHEMA, UsageStatus, encode
from control_plane.usage.intake import Intake
from control_plane.usage.stream import STREAM
from tests.control_plane.test_cli import inherited, vlaapi
from tests.control_plane.usage.conftest import database, lines, log, metrics, redis
from tests.control_plane.usage.making import add_events, make_event, make_recorder, row_ids, running, until_recorded

__all__ = ["database", "lines", "log", "metrics", "redis"]

PEPPER = b"a pepper that only these tests know, of some length"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """As the command's."""
    engine = create_engine(database_url, timeout_s=30)
    yield engine
    await engine.dispose()


@pytest.fixture
async def acme(engine: AsyncEngine, redis: Redis) -> CreatedCustomer:
    """A customer with a key."""
    stores = Stores(engine=engine, redis=redis, pepper=PEPPER)
    return await create_customer(stores, NewCustomer(company_name="Acme", email="a@example.com", tier=Tier.PRO), NewKey())


async def test_what_was_used_and_who_may_call_comes_back(
    engine: AsyncEngine, redis: Redis, database: asyncpg.Connection, acme: CreatedCustomer
) -> None:
    customer, now = acme.customer.id, datetime.now(UTC)
    month = [now.replace(day=1, hour=0, minute=0, second=1, microsecond=0)] if now.day > 1 else []
    events = [
        *(make_event(customer) for _ in range(5)),
        make_event(customer, status=UsageStatus.INVALID),
        make_event(customer, status=UsageStatus.ERROR),  # was given back
        *(make_event(customer, is_test=True, schema=TEST_SCHEMA) for _ in range(2)),
        *(make_event(customer, at=at) for at in month),
        make_event(customer, at=now.replace(day=1) - timedelta(days=1)),  # last month
    ]
    await Intake().take(database, [encode(event) for event in events], now=now)
    await redis.flushall()

    done = await rebuild(engine, redis, is_emptied_first=False, patience_s=5)

    assert (done.counters, done.keys) == (2, 1)
    record = await known_keys.recall(redis, digest_of(acme.key.text, pepper=PEPPER))
    assert record is not None
    seen = await look(redis, record.principal())
    assert (seen.day.used, seen.month.used) == (6, 6 + len(month))
    assert await redis.hget(f"vla:limits:{{{customer.hex}}}:test", "day_used") == b"2"
    assert 0 < await redis.pttl(f"vla:limits:{{{customer.hex}}}") < 32 * 86_400_000
    again = await rebuild(engine, redis, is_emptied_first=False, patience_s=5)
    assert again.counters == 0


async def test_counts_are_never_lowered(
    engine: AsyncEngine, redis: Redis, database: asyncpg.Connection, acme: CreatedCustomer
) -> None:
    """Admissions go on meanwhile: what Redis has counted beyond the log stays counted."""
    await Intake().take(database, [encode(make_event(acme.customer.id))], now=datetime.now(UTC))
    await rebuild(engine, redis, is_emptied_first=True, patience_s=5)
    name = f"vla:limits:{{{acme.customer.id.hex}}}"
    await redis.hincrby(name, "day_used", 10)
    await rebuild(engine, redis, is_emptied_first=False, patience_s=5)
    assert await redis.hget(name, "day_used") == b"11"


async def test_what_operators_decided_is_there_for_processes_without_postgresql(engine: AsyncEngine, redis: Redis) -> None:
    stores = Stores(engine=engine, redis=redis, pepper=PEPPER)
    await set_enabled(stores, named("tabletop"), is_enabled=False)
    await redis.flushall()
    done = await rebuild(engine, redis, is_emptied_first=False, patience_s=5)
    standing = await announce.recall(redis)
    assert standing is not None
    assert (standing.revision, standing.of("tabletop").is_enabled) == (done.standing_revision, False)


@pytest.mark.parametrize("is_emptied_first", [True, False])
async def test_while_events_wait_nothing_is_touched(
    engine: AsyncEngine,
    redis: Redis,
    acme: CreatedCustomer,
    is_emptied_first: bool,
) -> None:
    await add_events(redis, [make_event(acme.customer.id) for _ in range(3)])
    await redis.set("something", "else")
    with pytest.raises(EventsWaitError, match="recorder"):
        await rebuild(engine, redis, is_emptied_first=is_emptied_first, patience_s=0.3)
    assert (await redis.xlen(STREAM), await redis.get("something")) == (3, b"else")


async def test_it_is_emptied_under_traffic_without_losing_an_event(
    engine: AsyncEngine, redis: Redis, database_url: str, metrics: Metrics, log: FilteringBoundLogger, acme: CreatedCustomer
) -> None:
    """Events keep coming and a recorder keeps recording: every one has its row, and the recorder finds its group again."""
    sent, stop = [], asyncio.Event()

    async def traffic() -> None:
        while not stop.is_set():
            event = make_event(acme.customer.id)
            await add_events(redis, [event])
            sent.append(event.request_id)
            await asyncio.sleep(0.02)

    connection = await asyncpg.connect(database_url)
    try:
        async with running(make_recorder(redis, database_url, metrics, log)):
            calling = asyncio.create_task(traffic())
            await rebuild(engine, redis, is_emptied_first=True, patience_s=30)
            await asyncio.sleep(0.3)
            stop.set()
            await calling
            await until_recorded(redis)
        assert await row_ids(connection) == sorted(sent)
    finally:
        await connection.close()


def test_the_command_says_what_it_did_and_what_is_in_the_way(database_url: str, clean_redis_url: str) -> None:
    environment = inherited() | {
        "VLA_DATABASE_URL": database_url,
        "VLA_REDIS_URL": clean_redis_url,
        "VLA_KEY_PEPPER": PEPPER.decode(),
    }
    done = vlaapi(environment, "redis", "rebuild", "--flush")
    assert (done.status, done.out) == (0, "0 counters raised, 0 keys known, policies at revision 0\n")
