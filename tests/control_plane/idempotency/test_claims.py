"""Claims over a real Valkey: one attempt at a time, sealed answers, and what a dead attempt leaves."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest
from redis.asyncio import Redis

from control_plane.idempotency.claims import Claim, Claims, Found, Keeping, Kept
from control_plane.redis import create_redis
from control_plane.usage.request_id import mint
from tests.control_plane.eventually import eventually

MOTION = Keeping(attempt_ms=60_000, kept_ms=60_000, remembered_ms=600_000, may_rerun=True)
ORDER = replace(MOTION, may_rerun=False)
ANSWER = Kept(status=200, headers=[(b"content-type", b"application/json")], body=b'{"values": [1]}\x00\xff')


@pytest.fixture
async def redis(clean_redis_url: str) -> AsyncIterator[Redis]:
    """The session's Valkey, emptied."""
    client = create_redis(clean_redis_url, timeout_s=10)
    yield client
    await client.aclose()


@pytest.fixture
def claims(redis: Redis) -> Claims:
    """Over that."""
    return Claims(redis=redis, pepper=b"a pepper of some length")


async def claim(
    claims: Claims,
    *,
    owner: str = "a",
    route: str = "/x",
    key: str = "k",
    body: bytes = b"1",
    id_: UUID | None = None,
    keeping: Keeping = MOTION,
) -> Claim:
    """One attempt."""
    return await claims.claim(owner, route, key, print_=body, request_id=id_ or mint(), keeping=keeping)


async def lapse(redis: Redis, held: Claim) -> None:
    """The attempt's time is over, as if its process had been killed."""
    await redis.hset(held.names[0].decode(), "until_ms", 0)


async def test_one_of_many_at_once_is_first(claims: Claims) -> None:
    found = [one.found for one in await asyncio.gather(*(claim(claims) for _ in range(16)))]
    assert (found.count(Found.NEW), found.count(Found.RUNNING)) == (1, 15)


async def test_the_answer_is_given_again_to_the_byte(claims: Claims) -> None:
    first = await claim(claims)
    await claims.finish(first, ANSWER, MOTION)
    again = await claim(claims)
    assert (again.found, again.answer, again.request_id) == (Found.ANSWERED, ANSWER, first.request_id)


async def test_another_body_another_owner_and_another_route(claims: Claims) -> None:
    await claims.finish(await claim(claims), ANSWER, MOTION)
    assert (await claim(claims, body=b"2")).found is Found.OTHER
    assert (await claim(claims, owner="b")).found is Found.NEW
    assert (await claim(claims, route="/y")).found is Found.NEW
    assert (await claim(claims, key="l")).found is Found.NEW


async def test_neither_key_nor_answer_can_be_read_in_redis(claims: Claims, redis: Redis) -> None:
    first = await claim(claims, key="a-key-of-the-callers-own")
    await claims.finish(first, ANSWER, MOTION)
    names = await redis.keys("*")
    stored = [await redis.dump(name) or b"" for name in names]
    assert len(names) == 2
    assert not any(secret in part for part in (*names, *stored) for secret in (b"a-key-of", b"values", b"application"))


async def test_a_damaged_answer_is_gone_not_wrong(claims: Claims, redis: Redis) -> None:
    first = await claim(claims)
    await claims.finish(first, ANSWER, MOTION)
    await redis.setrange(first.names[1].decode(), 40, b"x")
    assert (await claim(claims)).found is Found.GONE


async def test_after_its_time_an_answer_is_gone_and_remembered(claims: Claims, redis: Redis) -> None:
    keeping = replace(MOTION, kept_ms=1)
    first = await claim(claims, keeping=keeping)
    await claims.finish(first, ANSWER, keeping)

    async def is_gone() -> bool:
        return (await claim(claims)).found is Found.GONE

    await eventually(is_gone)
    assert not await redis.exists(first.names[1])
    assert 0 < await redis.pttl(first.names[0]) <= MOTION.remembered_ms


async def test_a_large_answer_is_remembered_and_not_kept(claims: Claims) -> None:
    await claims.finish(await claim(claims), replace_body(ANSWER, b"x" * claims.max_answer_bytes), MOTION)
    assert (await claim(claims)).found is Found.GONE


def replace_body(answer: Kept, body: bytes) -> Kept:
    """The answer with another body."""
    return Kept(status=answer.status, headers=answer.headers, body=body)


async def test_an_attempt_that_never_ended_goes_on_under_its_request_id_or_not_at_all(claims: Claims, redis: Redis) -> None:
    first = await claim(claims)
    await lapse(redis, first)
    second = await claim(claims)
    assert (second.found, second.request_id) == (Found.AGAIN, first.request_id)
    assert (await claim(claims)).found is Found.RUNNING
    await claims.finish(first, ANSWER, MOTION)  # it lived after all: the second holds the key now
    assert (await claim(claims)).found is Found.RUNNING
    order = await claim(claims, key="order", keeping=ORDER)
    await lapse(redis, order)
    assert [(await claim(claims, key="order", keeping=ORDER)).found for _ in range(2)] == [Found.UNKNOWN] * 2


async def test_a_released_key_is_free_and_one_that_may_be_billed_keeps_its_id(claims: Claims) -> None:
    first = await claim(claims)
    await claims.release(first, keeps_id=True)
    second = await claim(claims)
    assert (second.found, second.request_id) == (Found.AGAIN, first.request_id)
    await claims.release(first, keeps_id=False)  # no longer the holder
    assert (await claim(claims)).found is Found.RUNNING
    await claims.release(second, keeps_id=False)
    third = await claim(claims)
    assert third.found is Found.NEW
    assert third.request_id != first.request_id
