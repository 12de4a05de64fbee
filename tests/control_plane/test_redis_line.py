"""The connection that scripts and pipelines share, against real Valkeys: order, refusals, and what happens when it breaks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from control_plane.redis import create_redis
from tests.control_plane.eventually import eventually
from tests.control_plane.own_servers import own_valkey
from tests.control_plane.usage.proxy import proxy_to

SAY = "return ARGV[1]"


@asynccontextmanager
async def client(url: str, *, timeout_s: float = 5.0, pause_s: float = 0.0) -> AsyncIterator[Redis]:
    """A client, closed afterwards."""
    redis = create_redis(url, timeout_s=timeout_s, pause_s=pause_s)
    try:
        yield redis
    finally:
        await redis.aclose()


async def say(redis: Redis, word: str | bytes) -> bytes:
    """The word, by way of a script."""
    said: bytes = await redis.eval(SAY, 0, word)
    return said


async def connections(redis: Redis) -> int:
    """How many there are at the server, this question's own included."""
    return int((await redis.info("clients"))["connected_clients"])


async def test_everybody_gets_their_own_reply_over_one_connection() -> None:
    async with own_valkey() as server, client(server.url) as redis:
        before = await connections(redis)
        words = [b"%d" % number for number in range(200)]
        assert await asyncio.gather(*(say(redis, word) for word in words)) == words
        assert await connections(redis) == before + 1


async def test_who_gives_up_leaves_the_others_their_replies(clean_redis_url: str) -> None:
    async with client(clean_redis_url) as redis:
        asking = [asyncio.create_task(say(redis, b"%d" % number)) for number in range(50)]
        await asyncio.sleep(0)
        for task in asking[::2]:
            task.cancel()
        replies = await asyncio.gather(*asking, return_exceptions=True)
        assert replies[1::2] == [b"%d" % number for number in range(1, 50, 2)]
        assert await say(redis, b"after") == b"after"


async def test_what_cannot_be_sent_takes_nobodys_reply(clean_redis_url: str) -> None:
    async with client(clean_redis_url) as redis:
        await say(redis, "opened")
        with pytest.raises(DataError):
            await redis.eval(SAY, 0, None)  # type: ignore[arg-type] # the mistake that is meant
        words = [b"%d" % number for number in range(20)]
        assert await asyncio.gather(*(say(redis, word) for word in words)) == words


async def test_a_pipeline_has_a_reply_for_each_command_errors_in_their_places(clean_redis_url: str) -> None:
    async with client(clean_redis_url) as redis:
        pipeline = redis.pipeline(transaction=False)
        pipeline.set("word", "one")
        pipeline.hget("word", "field")
        pipeline.hset("map", mapping={"a": "1"})
        pipeline.hgetall("map")
        set_, refused, _, read = await pipeline.execute(raise_on_error=False)
        assert set_ is True
        assert isinstance(refused, ResponseError)
        assert read == {b"a": b"1"}
        assert await pipeline.execute() == []


async def test_a_pipeline_gives_replies_as_a_single_command_does(clean_redis_url: str) -> None:
    async with client(clean_redis_url) as redis:
        pipeline = redis.pipeline(transaction=False)
        pipeline.sadd("words", "one")
        pipeline.smembers("words")
        assert await pipeline.execute() == [1, await redis.smembers("words")] == [1, {b"one"}]


async def test_a_pipeline_raises_its_first_error_where_that_is_wanted(clean_redis_url: str) -> None:
    async with client(clean_redis_url) as redis:
        pipeline = redis.pipeline(transaction=False)
        pipeline.set("word", "one")
        pipeline.hget("word", "field")
        with pytest.raises(ResponseError, match=r"Command # 2 .*WRONGTYPE"):
            await pipeline.execute()


async def test_an_unknown_script_is_told_apart(clean_redis_url: str) -> None:
    async with client(clean_redis_url) as redis:
        with pytest.raises(NoScriptError):
            await redis.evalsha("0" * 40, 0)


async def test_password_and_database_of_the_address_hold_here_too(clean_redis_url: str) -> None:
    parts = urlsplit(clean_redis_url)
    assert parts.password
    other = urlunsplit(parts._replace(path="/9"))
    async with client(other) as redis, client(clean_redis_url) as first:
        await redis.eval("return redis.call('SET', KEYS[1], 'there')", 1, "where")
        assert await redis.get("where") == b"there"
        assert await first.get("where") is None
        await redis.delete("where")


async def test_a_connection_that_was_closed_meanwhile_costs_nothing() -> None:
    async with own_valkey() as server, client(server.url) as redis:
        await say(redis, "one")
        await redis.client_kill_filter(_type="normal", skipme=False)
        assert await say(redis, "two") == b"two"


async def test_a_late_reply_ends_the_connection_and_is_never_taken_for_the_next(clean_redis_url: str) -> None:
    async with proxy_to(clean_redis_url) as proxy, client(proxy.url, timeout_s=0.3) as redis:
        await say(redis, "one")
        proxy.drops_replies = True
        outcomes = await asyncio.gather(say(redis, "two"), say(redis, "three"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RedisTimeoutError] * 2
        proxy.drops_replies = False
        assert await say(redis, "four") == b"four"


async def test_who_asked_after_a_late_one_still_gets_the_reply_and_nobody_the_late_ones() -> None:
    async with own_valkey() as server, client(server.url, timeout_s=1.0) as redis:
        await say(redis, "opened")
        before = await connections(redis)
        server.suspend()
        late = asyncio.create_task(say(redis, "late"))
        await asyncio.sleep(0.5)
        in_time = [asyncio.create_task(say(redis, word)) for word in ("a", "b")]
        await asyncio.wait([late])
        server.resume()
        with pytest.raises(RedisTimeoutError):
            await late
        assert await asyncio.gather(*in_time, say(redis, "new")) == [b"a", b"b", b"new"]

        async def are_as_many_as_before() -> bool:
            return await connections(redis) == before

        await eventually(are_as_many_as_before)  # the one with the late reply has ended


async def test_a_killed_server_is_found_again() -> None:
    async with own_valkey() as server, client(server.url, timeout_s=2.0) as redis:
        await say(redis, "one")
        server.kill()
        with pytest.raises(RedisConnectionError):
            await say(redis, "two")
        await server.start()

        async def answers() -> bool:
            return await say(redis, "three") == b"three"

        await eventually(answers)


async def test_closing_tells_who_waits(clean_redis_url: str) -> None:
    async with proxy_to(clean_redis_url) as proxy, client(proxy.url) as redis:
        await say(redis, "one")
        proxy.drops_requests = True
        asking = asyncio.create_task(say(redis, "two"))
        await asyncio.sleep(0.05)
        await redis.aclose()
        proxy.drops_requests = False
        with pytest.raises(RedisConnectionError):
            async with asyncio.timeout(5):
                await asking


async def test_closing_tells_who_waits_for_a_connection_and_who_comes_later() -> None:
    is_over, seen = asyncio.Event(), asyncio.Event()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set()
        await is_over.wait()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server, client(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_s=60.0) as redis:
        asking = [asyncio.create_task(say(redis, "x")) for _ in range(2)]
        await seen.wait()
        await redis.aclose()
        outcomes = await asyncio.gather(*asking, say(redis, "later"), return_exceptions=True)
        is_over.set()
    assert [type(outcome) for outcome in outcomes] == [RedisConnectionError] * 3


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_no_reply_is_waited_for_from_a_server_that_has_said_its_last(
    clean_redis_url: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """It takes no more bytes either: what is still to be sent must not keep the connection."""

    async def ask() -> bytes:
        async with proxy_to(clean_redis_url) as proxy, client(proxy.url, timeout_s=10.0) as redis:
            await say(redis, "opened")
            asking = asyncio.create_task(say(redis, bytes(20_000_000)))
            await asyncio.sleep(0)
            proxy.say_the_last()
            return await asking  # it was asked anew

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(ask()) == bytes(20_000_000)
