"""What a session remembers, over a real Valkey: who sees which chunk, who may use which `seq`, and what is simply not known."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import numpy as np
import pytest
from redis.asyncio import Redis

from control_plane.guarding.sessions import TTL_MS, SessionKey, Turn
from control_plane.redis import create_redis
from safety.context import PreviousChunk

SESSION = SessionKey(customer_id=UUID(int=1), policy="tabletop", robot_type="franka_panda", session_id="ep-17")
LEASES = b"vla:leases:{%b}" % SESSION.customer_id.hex.encode()


@pytest.fixture
async def redis(clean_redis_url: str) -> AsyncIterator[Redis]:
    client = create_redis(clean_redis_url, timeout_s=10)
    yield client
    await client.aclose()


def turn_in(session: SessionKey = SESSION, *, seq: int | None = None, keeps_content: bool = True) -> Turn:
    return Turn(session, seq=seq, hold_ms=1000, keeps_content=keeps_content)


async def opened(redis: Redis, turn: Turn, *, lease: str | None = None, is_admitted: bool = True) -> Turn:
    """The turn, opened in one round trip behind what an admission leaves."""
    lease = lease or uuid4().hex
    pipeline = redis.pipeline(transaction=False)
    if is_admitted:
        pipeline.zadd(LEASES, {lease: 4_000_000_000_000})
    turn.queue_into(pipeline, leases=LEASES, lease=lease.encode())
    turn.take((await pipeline.execute())[-1])
    return turn


def chunk_of(turn: Turn, value: float = 0.5) -> PreviousChunk:
    now_s = turn.now_s()
    assert now_s is not None
    return PreviousChunk(actions=np.full((8, 7), value, np.float32), sent_at_s=now_s, seq=3, q=(0.1,) * 7)


async def kept(redis: Redis, turn: Turn, chunk: PreviousChunk | None) -> None:
    pipeline = redis.pipeline(transaction=False)
    turn.keep_into(pipeline, chunk)
    await pipeline.execute()


async def left(redis: Redis, turn: Turn) -> None:
    pipeline = redis.pipeline(transaction=False)
    turn.leave_into(pipeline)
    await pipeline.execute()


async def test_the_next_request_of_a_session_sees_the_last_accepted_chunk_exactly(redis: Redis) -> None:
    first = await opened(redis, turn_in(seq=3))
    assert first.previous is None
    chunk = chunk_of(first)
    await kept(redis, first, chunk)
    second = await opened(redis, turn_in(seq=4))
    assert second.previous is not None
    assert (second.previous.actions == chunk.actions).all()
    assert (second.previous.sent_at_s, second.previous.seq, second.previous.q) == (chunk.sent_at_s, 3, chunk.q)
    now_s = second.now_s()
    assert now_s is not None
    assert now_s >= chunk.sent_at_s


@pytest.mark.parametrize(
    "other",
    [
        replace(SESSION, session_id="ep-18"),
        replace(SESSION, policy="openvla"),
        replace(SESSION, robot_type="ur5e"),
        replace(SESSION, policy="tabletop\0", robot_type="franka_panda"),
    ],
)
async def test_another_session_policy_or_robot_sees_nothing(redis: Redis, other: SessionKey) -> None:
    first = await opened(redis, turn_in(seq=3))
    await kept(redis, first, chunk_of(first))
    there = await opened(redis, turn_in(other, seq=3))
    assert (there.previous, there.is_replayed) == (None, False)


async def test_another_customer_with_the_same_session_id_sees_nothing(redis: Redis) -> None:
    first = await opened(redis, turn_in(seq=3))
    await kept(redis, first, chunk_of(first))
    stranger = replace(SESSION, customer_id=UUID(int=2))
    assert stranger.name() != SESSION.name()
    there = await opened(redis, turn_in(stranger, seq=1))
    assert (there.previous, there.is_replayed) == (None, False)


async def test_a_seq_that_is_not_new_is_replayed_and_takes_nothing_away(redis: Redis) -> None:
    first = await opened(redis, turn_in(seq=12))
    await kept(redis, first, chunk_of(first))
    for seq in (12, 11, 0):
        replay = await opened(redis, turn_in(seq=seq))
        assert (replay.is_replayed, replay.previous) == (True, None)
        await left(redis, replay)
        await kept(redis, replay, None)
    after = await opened(redis, turn_in(seq=13))
    assert not after.is_replayed
    assert after.previous is not None


async def test_of_many_at_once_with_one_seq_exactly_one_is_accepted(redis: Redis) -> None:
    turns = await asyncio.gather(*(opened(redis, turn_in(seq=5)) for _ in range(50)))
    assert [turn.is_replayed for turn in turns].count(False) == 1


async def test_a_large_seq_is_compared_exactly(redis: Redis) -> None:
    largest = 2**53
    first = await opened(redis, turn_in(seq=largest - 1))
    await kept(redis, first, chunk_of(first))
    assert not (await opened(redis, turn_in(seq=largest))).is_replayed
    assert (await opened(redis, turn_in(seq=largest - 1))).is_replayed


async def test_a_request_that_was_not_admitted_touches_no_session(redis: Redis) -> None:
    refused = await opened(redis, turn_in(seq=5), is_admitted=False)
    assert (refused.previous, refused.is_replayed, refused.now_s()) == (None, False, None)
    assert await redis.exists(SESSION.name()) == 0
    assert not (await opened(redis, turn_in(seq=5))).is_replayed


async def test_the_same_command_arriving_twice_is_one_turn(redis: Redis) -> None:
    """redis-py sends a command again on a new connection when the old one broke."""
    first = await opened(redis, turn_in(seq=4))
    await kept(redis, first, chunk_of(first))
    once = await opened(redis, turn_in(seq=5), lease="the lease")
    again = await opened(redis, turn_in(seq=5), lease="the lease")
    assert not again.is_replayed
    assert again.previous is not None
    assert once.previous is not None


async def test_after_a_request_that_failed_the_session_is_as_before_and_its_seq_is_free(redis: Redis) -> None:
    first = await opened(redis, turn_in(seq=3))
    await kept(redis, first, chunk_of(first))
    failed = await opened(redis, turn_in(seq=4))
    await left(redis, failed)
    retried = await opened(redis, turn_in(seq=4))
    assert not retried.is_replayed
    assert retried.previous is not None


async def test_while_another_request_is_in_flight_nobody_knows_what_was_accepted_last(redis: Redis) -> None:
    first = await opened(redis, turn_in(seq=3))
    await kept(redis, first, chunk_of(first))
    await opened(redis, turn_in(seq=4))  # its process dies here: it is never ended
    third = await opened(redis, turn_in(seq=5))
    assert (third.previous, third.is_replayed) == (None, False)
    await left(redis, third)
    assert (await opened(redis, turn_in(seq=5))).previous is None


async def test_an_overtaken_request_does_not_put_its_older_chunk_over_the_newer(redis: Redis) -> None:
    slow, quick = await opened(redis, turn_in(seq=3)), await opened(redis, turn_in(seq=4))
    await kept(redis, quick, chunk_of(quick, 0.4))
    await kept(redis, slow, chunk_of(slow, 0.3))
    after = await opened(redis, turn_in(seq=5))
    assert after.previous is not None
    assert after.previous.actions[0, 0] == np.float32(0.4)


async def test_without_seq_the_chunk_is_remembered_and_nothing_is_a_replay(redis: Redis) -> None:
    first = await opened(redis, turn_in())
    await kept(redis, first, chunk_of(first))
    second = await opened(redis, turn_in())
    assert not second.is_replayed
    assert second.previous is not None


async def test_zero_retention_remembers_the_seq_and_no_number_of_a_robot(redis: Redis) -> None:
    first = await opened(redis, turn_in(seq=3, keeps_content=False))
    await kept(redis, first, chunk_of(first))
    assert not {b"chunk", b"kept_ms"} & set(await redis.hkeys(SESSION.name()))
    assert (await opened(redis, turn_in(seq=3, keeps_content=False))).is_replayed
    second = await opened(redis, turn_in(seq=4, keeps_content=False))
    assert (second.previous, second.is_replayed) == (None, False)


async def test_nothing_is_remembered_for_longer_than_the_ttl(redis: Redis) -> None:
    first = await opened(redis, turn_in(seq=3))
    old = replace(chunk_of(first), sent_at_s=chunk_of(first).sent_at_s - TTL_MS / 1e3 - 0.1)
    await kept(redis, first, old)
    assert 0 < await redis.pttl(SESSION.name()) <= TTL_MS
    assert (await opened(redis, turn_in(seq=4))).previous is None


async def test_a_chunk_from_the_future_is_not_believed(redis: Redis) -> None:
    first = await opened(redis, turn_in(seq=3))
    await kept(redis, first, replace(chunk_of(first), sent_at_s=chunk_of(first).sent_at_s + 60))
    assert (await opened(redis, turn_in(seq=4))).previous is None


async def test_damaged_bytes_are_no_memory(redis: Redis) -> None:
    first = await opened(redis, turn_in(seq=3))
    await kept(redis, first, chunk_of(first))
    await redis.hset(SESSION.name(), "chunk", b"\xff not ours")
    assert (await opened(redis, turn_in(seq=4))).previous is None


@pytest.mark.parametrize("reply", [None, [], [b"open", b""], RuntimeError("NOSCRIPT"), b"open", [b"refused", b"", 1]])
def test_an_answer_that_is_not_ours_leaves_everything_unknown(reply: object) -> None:
    turn = turn_in(seq=1)
    turn.take(reply)
    assert (turn.now_s(), turn.previous, turn.is_replayed) == (None, None, False)
