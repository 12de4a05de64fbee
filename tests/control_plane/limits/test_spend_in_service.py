"""Spend caps through the whole application over real servers: two API processes, 64 clients, a Redis that loses its memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from billing.tiers import Tier
from control_plane.customers.verbs import set_spend_cap
from control_plane.identity.lookup import look_up
from control_plane.keys.verbs import IssuedKey, list_keys
from control_plane.redis import create_redis
from control_plane.settings import Settings
from control_plane.usage.event import encode
from control_plane.usage.intake import Intake
from tests.control_plane.eventually import eventually
from tests.control_plane.limits.test_spend import seasoned
from tests.control_plane.own_servers import own_valkey
from tests.control_plane.usage.making import start_again
from tests.control_plane.whole_app import (
    MINIMAL,
    answers,
    events_in,
    new_key,
    post,
    process,
    running,
    settings_of,
    stores,
    variables,
)

PLENTY_CENTS = 10**9


@pytest.fixture
async def redis(clean_redis_url: str) -> AsyncIterator[Redis]:
    """The session's Valkey, emptied, and old enough to be counted for."""
    client = create_redis(clean_redis_url, timeout_s=10)
    await seasoned(client)
    yield client
    await client.aclose()


async def capped_key(settings: Settings, *, room: int) -> IssuedKey:
    """The key of a new enterprise customer whose cap leaves room for so many requests at one cent."""
    key = await new_key(settings, tier=Tier.ENTERPRISE)
    await set_cap(settings, key, room=room)
    return key


async def set_cap(settings: Settings, key: IssuedKey, *, room: int) -> None:
    """As an operator does. What the month costs already is the fee, or the part of it that is left of the month."""
    async with stores(settings) as there:
        owner = next(other.customer_id for other in await list_keys(there.engine) if other.id == key.id)
        await set_spend_cap(there, owner, PLENTY_CENTS)
        record = await look_up(there.engine, key.digest)
        assert record is not None
        assert record.most_billable is not None
        await set_spend_cap(there, owner, PLENTY_CENTS - record.most_billable + room)


async def code(client: httpx.AsyncClient, key: IssuedKey, **body: object) -> str:
    """How one request ends."""
    response = await post(client, key, {**MINIMAL, **body})
    return "ok" if response.status_code == 200 else str(response.json()["error"]["code"])


async def record(database_url: str, redis: Redis) -> int:
    """Records what is in the stream; how many requests are billable this month then."""
    connection = await asyncpg.connect(database_url)
    try:
        await Intake().take(connection, [encode(event) for event in await events_in(redis)], now=datetime.now(UTC))
        return int(await connection.fetchval("SELECT sum(billable_requests) FROM usage_months") or 0)
    finally:
        await connection.close()


async def test_64_clients_at_two_processes_get_exactly_what_the_cap_pays_for(
    database_url: str, redis: Redis, clean_redis_url: str, triton_url: str, tmp_path: Path, server_folder: Path
) -> None:
    environment = variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path)
    settings, room = settings_of(environment), 40
    async with AsyncExitStack() as stack:
        clients = [
            stack.enter_context(process(environment, socket=server_folder / f"spend-{n}", log=tmp_path / f"api-{n}.log"))
            for n in range(2)
        ]
        for client in clients:
            stack.push_async_callback(client.aclose)
            await answers(client)
        key = await capped_key(settings, room=room)

        async def one_client(number: int) -> Counter[str]:
            """Asks until it is told to stop; every third asks for nonsense, which is admitted and not billed."""
            asked: Counter[str] = Counter()
            for turn in range(40):
                is_nonsense = (number + turn) % 3 == 0
                ended = await code(clients[number % 2], key, **({"state": [1.0]} if is_nonsense else {}))
                asked[ended] += 1
                if ended == "spend_limit":
                    break
            return asked

        total = sum(await asyncio.gather(*(one_client(number) for number in range(64))), Counter())
        while (ended := await code(clients[0], key)) != "spend_limit":  # what nonsense had held when others were refused
            total[ended] += 1
        assert set(total) == {"ok", "invalid_state", "spend_limit"}
        assert total["ok"] == room
        assert await record(database_url, redis) == room

        await redis.flushall()
        assert [await code(client, key) for client in clients] == ["spend_limit"] * 2
        await set_cap(settings, key, room=room + 5)

        async def is_heard() -> bool:
            return await code(clients[0], key) == "ok"

        await eventually(is_heard)
        again = Counter(await asyncio.gather(*(code(clients[n % 2], key) for n in range(64))))
        assert again == {"ok": 4, "spend_limit": 60}


async def test_a_redis_that_was_killed_neither_frees_nor_eats_the_cap(database_url: str, triton_url: str, tmp_path: Path) -> None:
    async with own_valkey() as server:
        environment = variables(database_url=database_url, redis_url=server.url, triton_url=triton_url, spool=tmp_path)
        settings = settings_of(environment)
        key = await capped_key(settings, room=6)
        redis = create_redis(server.url, timeout_s=5, pause_s=0)
        async with running(settings) as client:

            async def is_counted() -> bool:
                return await code(client, key) == "ok"

            assert await code(client, key) == "spend_unknown"  # just started: the others might bring back what it lacks
            await eventually(is_counted)
            assert [await code(client, key) for _ in range(2)] == ["ok"] * 2
            server.kill()
            assert await code(client, key) == "spend_unknown"
            await start_again(server)
            await eventually(is_counted)
            assert [await code(client, key) for _ in range(4)] == ["ok", "ok", "spend_limit", "spend_limit"]
            assert await record(database_url, redis) == 6
        await redis.aclose()


async def test_a_dry_run_is_free_whatever_is_spent(
    database_url: str, redis: Redis, clean_redis_url: str, triton_url: str, tmp_path: Path
) -> None:
    settings = settings_of(variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path))
    key = await capped_key(settings, room=1)
    async with running(settings) as client:
        headers = {"Authorization": f"Bearer {key.text}"}
        assert await code(client, key) == "ok"
        assert await code(client, key) == "spend_limit"
        checked = await client.post("/v1/safety/check", headers=headers, json={"actions": [[0.0] * 7]})
        assert checked.status_code == 200
