"""What the stream keeps and forgets, seen by Redis itself."""

from redis.asyncio import Redis

from control_plane.usage.stream import GROUP, STREAM, Consumer
from tests.control_plane.usage.making import add_payloads


async def test_joining_twice_keeps_what_was_read(redis: Redis) -> None:
    consumer = Consumer(redis, name="one")
    await consumer.join()
    await add_payloads(redis, [b"a"])
    await consumer.read_new(count=1, block_ms=1)
    await consumer.join()
    assert await consumer.read_new(count=1, block_ms=1) == []


async def test_the_group_begins_with_the_very_first_entry(redis: Redis) -> None:
    await add_payloads(redis, [b"before the group was made"])
    consumer = Consumer(redis, name="one")
    await consumer.join()
    assert [delivery.payload for delivery in await consumer.read_new(count=9, block_ms=1)] == [b"before the group was made"]


async def test_what_was_read_stays_pending_until_it_is_acknowledged(redis: Redis) -> None:
    consumer = Consumer(redis, name="one")
    await consumer.join()
    await add_payloads(redis, [b"a", b"b"])
    read = await consumer.read_new(count=9, block_ms=1)
    assert await consumer.read_pending(count=9) == read
    await consumer.acknowledge(read[:1])
    assert await consumer.read_pending(count=9) == read[1:]
    assert await redis.xlen(STREAM) == 1


async def test_an_entry_deleted_while_it_waited_has_no_payload_and_can_be_acknowledged(redis: Redis) -> None:
    consumer = Consumer(redis, name="one")
    await consumer.join()
    await add_payloads(redis, [b"a"])
    (read,) = await consumer.read_new(count=9, block_ms=1)
    await redis.xdel(STREAM, read.entry_id)
    (pending,) = await consumer.read_pending(count=9)
    assert pending.payload is None
    await consumer.acknowledge([pending])
    assert await consumer.read_pending(count=9) == []


async def test_thousands_of_abandoned_entries_are_claimed(redis: Redis) -> None:
    dead, heir = Consumer(redis, name="dead"), Consumer(redis, name="heir")
    await dead.join()
    await add_payloads(redis, [b"%d" % n for n in range(2500)])
    await dead.read_new(count=2500, block_ms=1)
    await heir.claim_abandoned(idle_ms=0)
    assert len(await heir.read_pending(count=5000)) == 2500


async def test_what_a_living_recorder_holds_is_left_to_it(redis: Redis) -> None:
    living, other = Consumer(redis, name="living"), Consumer(redis, name="other")
    await living.join()
    await add_payloads(redis, [b"a"])
    await living.read_new(count=1, block_ms=1)
    await other.claim_abandoned(idle_ms=60_000)
    await other.tidy(forget_after_ms=60_000)
    assert await other.read_pending(count=1) == []
    assert await other.read_new(count=1, block_ms=1) == []


async def test_idle_consumers_are_forgotten_only_when_nothing_is_pending_for_them(redis: Redis) -> None:
    idle, holding, tidying = (Consumer(redis, name=name) for name in ("idle", "holding", "tidying"))
    await tidying.join()
    await idle.read_new(count=1, block_ms=1)
    await add_payloads(redis, [b"a"])
    await holding.read_new(count=1, block_ms=1)
    await tidying.tidy(forget_after_ms=-1)
    assert [consumer["name"] for consumer in await redis.xinfo_consumers(STREAM, GROUP)] == [b"holding"]
