"""The Redis client: bytes, bounded waits, and a breaker that makes an absent Redis cheap."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError

from control_plane.redis import REDIS_AWAY, RedisRefusesError, create_redis
from tests.control_plane.eventually import eventually
from tests.control_plane.own_servers import own_valkey


@asynccontextmanager
async def client(url: str, *, timeout_s: float = 5.0, pause_s: float = 0.5) -> AsyncIterator[Redis]:
    """A client, closed afterwards."""
    redis = create_redis(url, timeout_s=timeout_s, pause_s=pause_s)
    try:
        yield redis
    finally:
        await redis.aclose()


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, list[object]]]:
    """Something that accepts connections and never answers, and the connections it has seen."""
    seen: list[object] = []
    is_over = asyncio.Event()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer)
        await is_over.wait()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", seen
    finally:
        is_over.set()
        server.close()
        await server.wait_closed()


async def read_in_pipeline(redis: Redis) -> list[object]:
    """One command in a pipeline."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.get(b"k")
    return await pipeline.execute()


async def is_refused(redis: Redis) -> bool:
    """Whether Redis has begun to refuse writes. Writes, which is what makes it try to save."""
    try:
        await redis.set(b"k", b"v")
    except RedisRefusesError:
        return True
    return False


async def test_values_are_bytes_both_ways(clean_redis_url: str) -> None:
    async with client(clean_redis_url) as redis:
        await redis.set(b"k", b"\xff\x00")
        assert await redis.get(b"k") == b"\xff\x00"


async def test_a_hanging_redis_is_waited_for_once_per_pause() -> None:
    async with silent_server() as (url, seen), client(url, timeout_s=0.05, pause_s=3600) as redis:
        with pytest.raises(REDIS_AWAY):
            await redis.get(b"k")
        for _ in range(20):
            with pytest.raises(RedisConnectionError, match="away a moment ago"):
                await redis.get(b"k")
        assert len(seen) == 1


async def test_a_pipeline_passes_the_same_breaker() -> None:
    async with silent_server() as (url, seen), client(url, timeout_s=0.05, pause_s=3600) as redis:
        with pytest.raises(REDIS_AWAY):
            await read_in_pipeline(redis)
        with pytest.raises(RedisConnectionError, match="away a moment ago"):
            await read_in_pipeline(redis)
        assert len(seen) == 1


async def test_a_killed_redis_is_used_again_after_its_restart() -> None:
    async with own_valkey() as server, client(server.url, pause_s=0) as redis:
        await redis.set(b"k", b"v")
        server.kill()
        with pytest.raises(REDIS_AWAY):
            await redis.get(b"k")
        await server.start()
        assert await redis.get(b"k") == b"v"


async def test_a_connection_that_broke_while_idle_costs_the_caller_nothing(redis_url: str) -> None:
    async with client(redis_url) as redis:
        await redis.ping()
        await redis.client_kill_filter(_type="normal", skipme=False)
        assert await redis.ping()


async def test_a_full_redis_counts_as_away_but_can_still_be_read() -> None:
    async with own_valkey() as server, client(server.url) as redis:
        await redis.set(b"k", b"v")
        await redis.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError) as refusal:
            await redis.set(b"k2", b"v")
        assert isinstance(refusal.value, REDIS_AWAY)
        assert await redis.get(b"k") == b"v"


async def test_a_redis_that_cannot_write_its_disk_counts_as_away() -> None:
    async with own_valkey() as server, client(server.url) as redis:
        folder = (await redis.config_get("dir"))["dir"]
        Path(str(folder), "dump.rdb").mkdir()  # noqa: ASYNC240 -- one call; where the snapshot belongs, there is now a folder
        await redis.config_set("save", "1 1")
        await eventually(lambda: is_refused(redis), every_s=0.1)
        with pytest.raises(RedisRefusesError) as refusal:
            await redis.set(b"k", b"v")
        assert isinstance(refusal.value, REDIS_AWAY)


async def test_our_own_mistakes_are_not_taken_for_an_absent_redis(clean_redis_url: str) -> None:
    async with client(clean_redis_url) as redis:
        await redis.set(b"k", b"v")
        with pytest.raises(ResponseError, match="WRONGTYPE") as mistake:
            await redis.hget("k", "f")
        assert not isinstance(mistake.value, REDIS_AWAY)


async def test_a_refusal_after_a_restart_shows_that_redis_is_back() -> None:
    async with own_valkey() as server, client(server.url, pause_s=0.05) as redis:
        await redis.set(b"k", b"v")
        server.kill()
        with pytest.raises(REDIS_AWAY):
            await redis.get(b"k")
        await server.start()
        await asyncio.sleep(0.06)
        with pytest.raises(NoScriptError):
            await redis.evalsha("0" * 40, 0)
        assert await redis.get(b"k") == b"v"
