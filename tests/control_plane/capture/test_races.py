"""Deletions, late frames and several workers at once: none may bring back what is deleted, or hide what is stored."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg

from control_plane.capture.asked import Wanted
from control_plane.capture.deletion import delete
from control_plane.capture.part import MANIFEST, ROOT, frames_in
from control_plane.objects import ObjectStore
from control_plane.usage.event import encode
from control_plane.usage.intake import Intake
from tests.control_plane.capture.conftest import House
from tests.control_plane.eventually import eventually
from tests.control_plane.usage.making import make_event


class SlowObjects:
    """A real store whose puts of some keys wait until they are let go. Everything else is the store's own."""

    def __init__(self, objects: ObjectStore, is_slow: Callable[[str], bool]) -> None:
        self._objects, self._is_slow = objects, is_slow
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.slow_puts = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)

    async def put(self, key: str, data: bytes) -> None:
        """See ObjectStore."""
        if self._is_slow(key):
            self.slow_puts += 1
            self.has_begun.set()
            await self.may_end.wait()
        await self._objects.put(key, data)


@asynccontextmanager
async def in_flight(house: House, is_slow: Callable[[str], bool]) -> AsyncIterator[SlowObjects]:
    """A worker that is in the middle of such a put; it ends when this does."""
    store = SlowObjects(house.objects, is_slow)
    shipping = asyncio.create_task(house.shipper(objects=store).step())  # type: ignore[arg-type]  # the rest is the store's
    await store.has_begun.wait()
    try:
        yield store
    finally:
        store.may_end.set()
        await shipping


async def until_done_or_waiting(house: House, task: asyncio.Task[object]) -> None:
    """Until it has ended, or waits for somebody's lock."""

    async def is_so() -> bool:
        return task.done() or bool(await house.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await eventually(is_so)


async def test_a_frame_in_flight_is_not_in_the_store_after_its_deletion(house: House) -> None:
    house.write(house.sample(0))
    async with in_flight(house, lambda key: key.endswith(".tar")) as store:
        deleting = asyncio.create_task(delete(house.places(), Wanted(customer_id=house.customer_id)))
        await until_done_or_waiting(house, deleting)
        store.may_end.set()
        proof = await deleting
    assert proof.left == ()
    assert await house.objects.find(ROOT) == []
    assert await house.scalar("SELECT count(*) FROM captured_frames") == 0


async def test_a_batch_of_usage_in_flight_has_no_content_after_its_deletion_and_is_billed_once(
    house: House, database_url: str
) -> None:
    payload = encode(make_event(house.customer_id))
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await Intake().take(connection, [payload], now=datetime.now(UTC))
            deleting = asyncio.create_task(delete(house.places(), Wanted(customer_id=house.customer_id)))
            await until_done_or_waiting(house, deleting)
        proof = await deleting
        assert (proof.log_rows, proof.left) == (1, ())
        again = await Intake().take(connection, [payload], now=datetime.now(UTC))
        assert (again.recorded, again.duplicates) == (0, 1)
    finally:
        await connection.close()
    assert await house.scalar("SELECT count(*) FROM inference_logs WHERE action IS NOT NULL OR instruction IS NOT NULL") == 0
    assert await house.scalar("SELECT sum(billable_requests) FROM usage_months") == 1


async def test_a_part_that_comes_while_an_episode_is_closed_is_another_episode(house: House) -> None:
    house.write(house.sample(0))
    async with in_flight(house, lambda key: key.endswith(MANIFEST)) as store:
        house.write(house.sample(1))
        late = asyncio.create_task(house.shipper().step())
        await until_done_or_waiting(house, late)
        store.may_end.set()
        await late
    await house.shipper().step()
    assert sorted(manifest.frames for manifest in await house.manifests()) == [1, 1]
    assert len(await house.frames()) == 2
    assert await house.scalar("SELECT array_agg(frames) FROM captured_episodes WHERE state = 'closed'") == [1, 1]


async def test_two_workers_write_one_manifest_once(house: House) -> None:
    house.write(house.sample(0))
    async with in_flight(house, lambda key: key.endswith(MANIFEST)) as store:
        await house.shipper(objects=store).step()  # type: ignore[arg-type]  # as above
        assert store.slow_puts == 1


async def test_two_requests_of_one_part_deleted_at_once_are_both_gone(house: House) -> None:
    samples = [house.sample(seed) for seed in range(3)]
    house.write(*samples)
    await house.shipper().step()
    store = SlowObjects(house.objects, lambda key: key.endswith(".tar"))
    places = house.places(store)  # type: ignore[arg-type]  # as above
    wanted = [Wanted(customer_id=house.customer_id, request_id=sample.request_id) for sample in samples[:2]]
    deleting = [asyncio.create_task(delete(places, one)) for one in wanted]
    await store.has_begun.wait()
    await until_done_or_waiting(house, deleting[1])
    store.may_end.set()
    assert [proof.left for proof in await asyncio.gather(*deleting)] == [(), ()]
    (manifest,) = await house.manifests()
    (part,) = manifest.parts
    assert [frame.request_id for frame, _ in frames_in(await house.objects.get(part.key))] == [samples[2].request_id]
