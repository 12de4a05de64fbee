"""A change reaches every process: announced, or noticed when hearing begins again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.identity import known_keys
from control_plane.identity.revocation import RevocationListener
from control_plane.redis import create_redis
from tests.control_plane.eventually import eventually
from tests.control_plane.identity.conftest import AddKey, Observed, Observing
from tests.control_plane.own_servers import own_valkey
from tests.control_plane.relay import relay_to


@asynccontextmanager
async def hearing(process: Observed) -> AsyncIterator[RevocationListener]:
    """A started listener that hears."""
    listener = RevocationListener(redis=process.redis, authenticator=process.authenticator)
    listener.start()
    await listener.wait_until_hearing()
    try:
        yield listener
    finally:
        await listener.stop()


async def is_deaf(listener: RevocationListener) -> bool:
    """For `eventually`."""
    return not listener.is_hearing


async def is_hearing(listener: RevocationListener) -> bool:
    """For `eventually`."""
    return listener.is_hearing


async def revoke(engine: AsyncEngine, digest: bytes) -> None:
    """In PostgreSQL only."""
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE api_keys SET revoked_at = now() WHERE digest = :digest"), {"digest": digest})


async def test_an_announcement_ends_what_is_believed(
    add_key: AddKey, observing: Observing, engine: AsyncEngine, redis: Redis
) -> None:
    key, other = await add_key(), await add_key()
    async with observing(cache_s=3600) as process, hearing(process):
        assert [await process.code(header) for header in (key.header, other.header)] == ["ok", "ok"]
        await revoke(engine, key.digest)
        assert await process.code(key.header) == "ok"
        await known_keys.announce(redis, [key.digest])

        async def is_refused() -> bool:
            return await process.code(key.header) == "revoked_key"

        await eventually(is_refused)
        statements = len(process.statements)
        assert await process.code(other.header) == "ok"
        assert len(process.statements) == statements  # only the key that changed was looked up again


async def test_one_announcement_may_name_many_keys(add_key: AddKey, observing: Observing, redis: Redis) -> None:
    keys = [await add_key() for _ in range(3)]
    async with observing(cache_s=3600) as process, hearing(process):
        for key in keys:
            assert await process.code(key.header) == "ok"
        await known_keys.announce(redis, [key.digest for key in keys])

        async def are_all_read_again() -> bool:
            for key in keys:
                await process.code(key.header)
            return len(process.statements) == 6

        await eventually(are_all_read_again)


async def test_whatever_was_missed_while_redis_was_gone_is_covered_when_it_is_back(add_key: AddKey, observing: Observing) -> None:
    key = await add_key()
    async with own_valkey() as server, observing(redis=server.url, cache_s=3600) as process, hearing(process) as listener:
        assert [await process.code(key.header) for _ in range(2)] == ["ok", "ok"]
        assert process.count("process", "ok") == 1
        server.kill()
        await eventually(lambda: is_deaf(listener))
        assert await process.code(key.header) == "ok"
        assert process.count("process", "ok") == 2
        await server.start()
        await eventually(lambda: is_hearing(listener))
        assert await process.code(key.header) == "ok"
        assert process.count("process", "ok") == 2  # not from the process: that was forgotten


async def test_a_connection_that_has_gone_silent_is_noticed_and_replaced(observing: Observing, clean_redis_url: str) -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(relay_to(clean_redis_url))
        process = await stack.enter_async_context(observing(redis=relay.url, timeout_s=0.5))
        listener = await stack.enter_async_context(hearing(process))
        relay.clog()
        await eventually(lambda: is_deaf(listener))
        await relay.mend()
        await eventually(lambda: is_hearing(listener))


async def test_a_listener_may_be_started_before_redis(observing: Observing) -> None:
    async with own_valkey() as server, observing(redis=server.url) as process:
        server.kill()
        listener = RevocationListener(redis=process.redis, authenticator=process.authenticator)
        listener.start()
        await server.start()
        await eventually(lambda: is_hearing(listener))
        await listener.stop()


async def test_having_nothing_to_hear_is_not_taken_for_a_broken_connection(observing: Observing, clean_redis_url: str) -> None:
    client = create_redis(clean_redis_url, timeout_s=10)
    async with observing() as process, hearing(process) as listener:
        connected = {name["id"] for name in await client.client_list(_type="pubsub")}
        await eventually(lambda: has_pinged(client, connected))
        assert listener.is_hearing
    await client.aclose()


async def has_pinged(client: Redis, connected: set[str]) -> bool:
    """Whether the one subscription that was there is still there and has said PING since."""
    now = await client.client_list(_type="pubsub")
    return {name["id"] for name in now} == connected and all(name["cmd"] == "ping" for name in now)


async def test_a_listener_that_is_stopped_while_it_begins_ends(observing: Observing) -> None:
    for turns in range(12):  # of the event loop, between the start and the stop
        async with observing() as process:
            listener = RevocationListener(redis=process.redis, authenticator=process.authenticator)
            listener.start()
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(20):
                await listener.stop()
