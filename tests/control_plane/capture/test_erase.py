"""Retention and deletion: what is over or asked for is gone, from the store itself, and the proof is a second look."""

import io
import tarfile
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import insert, select

from control_plane.audit.reading import Filter, read_lines
from control_plane.capture.asked import Wanted
from control_plane.capture.deletion import customer_of, delete
from control_plane.capture.part import ROOT, frames_in, org_of
from control_plane.capture.sample import Sample
from control_plane.capture.sweep import Sweeper
from control_plane.capture.tables import captured_frames, dataset_members, datasets
from control_plane.errors import ApiError
from control_plane.logs import create_log
from control_plane.usage.dead_letters import DeadLetter, Reason, set_aside, take_out
from control_plane.usage.event import decode, encode
from control_plane.usage.intake import Intake
from control_plane.usage.partitions import days_ahead, ensure_partitions
from control_plane.usage.request_id import instant_of, mint
from tests.control_plane.capture.conftest import House
from tests.control_plane.usage.making import make_event


def sweeper(house: House) -> Sweeper:
    return Sweeper(engine=house.engine, objects=house.objects, metrics=house.metrics, log=create_log("error"))


async def shipped(house: House, *samples: Sample) -> None:
    house.write(*samples)
    await house.shipper().step()


async def logged(house: House, database_url: str, *samples: Sample) -> None:
    """Their rows, as the recorder makes them."""
    connection = await asyncpg.connect(database_url)
    try:
        now = datetime.now(UTC)
        await ensure_partitions(connection, days_ahead(now.date(), count=1))
        events = [
            make_event(
                sample.customer_id,
                request_id=sample.request_id,
                occurred_at=instant_of(sample.request_id),
                instruction=sample.instruction,
                action=sample.action,
                session_id=sample.session_id,
            )
            for sample in samples
        ]
        await Intake().take(connection, list(map(encode, events)), now=now)
    finally:
        await connection.close()


async def test_what_is_over_is_removed_from_the_store_and_what_is_not_stays(house: House) -> None:
    await shipped(house, house.sample(0))
    assert await sweeper(house).step() == 0
    await house.age(timedelta(days=366))
    await shipped(house, house.sample(1, session_id="younger"))
    assert await sweeper(house).step() == 1
    (left,) = await house.manifests()
    assert left.session_id == "younger"
    assert len(await house.objects.find(ROOT)) == 2
    assert await house.scalar("SELECT deleted_because FROM captured_episodes WHERE state = 'deleted'") == "retention"


async def test_objects_that_no_row_knows_are_removed_when_they_are_old(house: House) -> None:
    await shipped(house, house.sample(0))
    await house.objects.put(f"{ROOT}policy=train/keep=1/dt=2026-01-01/hh=00/org=x/robot=y/ep=z/part-1.tar", b"lost")
    assert await sweeper(house).step() == 0
    assert len(await house.objects.find(ROOT)) == 3
    await sweeper(house).step(now=datetime.now(UTC) + timedelta(days=2))
    assert len(await house.objects.find(ROOT)) == 2


async def test_everything_of_a_customer_is_deleted_and_proved(house: House, database_url: str) -> None:
    samples = [house.sample(seed, session_id=f"ep-{seed}") for seed in range(3)]
    await shipped(house, *samples)
    await logged(house, database_url, *samples)
    waiting = house.sample(9, session_id="waits in a file")
    house.write(waiting)
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id))
    assert (proof.episodes, proof.objects, proof.log_rows, proof.left) == (3, 6, 3, ())
    assert [found.key for found in await house.objects.find(ROOT) if org_of(house.customer_id) in found.key] == []
    assert await house.scalar("SELECT count(*) FROM inference_logs WHERE instruction IS NOT NULL OR session_id IS NOT NULL") == 0
    assert await house.scalar("SELECT count(*) FROM inference_logs WHERE is_billable") == 3  # invoices stand
    assert await house.shipper().step() == 0  # what waited was held against the deletion
    assert house.counted("deleted") == 1
    (line,) = await read_lines(house.engine, Filter(action="data.delete"), limit=9)
    assert (line.customer_id, line.after["objects"], line.after["left"]) == (house.customer_id, 6, [])
    later = house.sample(10, session_id="after it")
    await shipped(house, later)
    assert len(await house.frames()) == 1


async def test_one_session_is_deleted_and_the_others_stay(house: House, database_url: str) -> None:
    samples = [house.sample(seed, session_id=f"ep-{seed}") for seed in range(3)]
    await shipped(house, *samples)
    await logged(house, database_url, *samples)
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id, session_id="ep-1"))
    assert (proof.episodes, proof.log_rows, proof.left) == (1, 1, ())
    assert sorted(manifest.session_id or "" for manifest in await house.manifests()) == ["ep-0", "ep-2"]


async def test_one_request_is_cut_out_of_its_episode(house: House, database_url: str) -> None:
    samples = [house.sample(seed) for seed in range(3)]
    await shipped(house, *samples)
    await logged(house, database_url, *samples)
    gone = samples[1].request_id
    assert await customer_of(house.engine, gone) == house.customer_id
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id, request_id=gone))
    assert (proof.log_rows, proof.left) == (1, ())
    (manifest,) = await house.manifests()
    assert (manifest.frames, manifest.summary.decisions) == (2, {"pass": 2})
    part = await house.objects.get(manifest.parts[0].key)
    assert gone.hex.encode() not in part
    assert samples[1].shots[0].data not in part
    assert [frame.request_id for frame, _ in frames_in(part)] == [samples[0].request_id, samples[2].request_id]
    with tarfile.open(fileobj=io.BytesIO(part)) as tar:
        assert len(tar.getnames()) == 4
    await delete(house.places(), Wanted(customer_id=house.customer_id, request_id=samples[0].request_id))
    await delete(house.places(), Wanted(customer_id=house.customer_id, request_id=samples[2].request_id))
    assert await house.objects.find(ROOT) == []


async def test_a_part_that_an_earlier_try_removed_takes_no_other_part_with_it(house: House, database_url: str) -> None:
    samples = [house.sample(seed) for seed in range(3)]
    house.write(samples[0])
    await house.shipper(idle_s=3600).step()
    await shipped(house, *samples[1:])
    await logged(house, database_url, *samples)
    async with house.engine.connect() as connection:
        is_it = captured_frames.c.request_id == samples[0].request_id
        key = str(await connection.scalar(select(captured_frames.c.part_key).where(is_it)))
    await house.objects.remove([key])
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id, request_id=samples[0].request_id))
    assert proof.left == ()
    (manifest,) = await house.manifests()
    assert (manifest.frames, [part.key == key for part in manifest.parts]) == (2, [False])


async def test_a_dataset_that_was_built_from_it_is_marked(house: House) -> None:
    await shipped(house, house.sample(0))
    episode = (await house.manifests())[0].episode
    dataset = uuid4()
    async with house.engine.begin() as connection:
        await connection.execute(insert(datasets).values(id=dataset, place="/somewhere", asked={}))
        await connection.execute(insert(dataset_members).values(dataset_id=dataset, episode_id=episode, split="train"))
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id, session_id="ep-1"))
    assert proof.dataset_members == 1
    assert await house.scalar("SELECT count(*) FROM dataset_members WHERE tombstoned_at IS NOT NULL") == 1


async def test_usage_that_is_not_yet_a_row_leaves_the_deletion_unproved(house: House) -> None:
    await house.redis.xadd("vla:usage", {"event": encode(make_event(house.customer_id))})
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id))
    assert "wait in the stream" in proof.left[0]
    assert await house.scalar("SELECT count(*) FROM data_deletions WHERE proved_at IS NOT NULL") == 0


async def test_events_that_could_not_be_recorded_lose_their_content_and_stay_billable(house: House, database_url: str) -> None:
    events = [make_event(house.customer_id, session_id=name) for name in ("ep-1", "ep-2")]
    other = make_event(uuid4(), session_id="ep-1")
    letters = [DeadLetter(payload=encode(event), reason=Reason.NO_PARTITION, detail="") for event in (*events, other)]
    connection = await asyncpg.connect(database_url)
    try:
        await set_aside(connection, letters)
        proof = await delete(house.places(), Wanted(customer_id=house.customer_id, session_id="ep-1"))
        assert (proof.log_rows, proof.left) == (1, ())
        kept = {event.request_id: event for event in map(decode, await take_out(connection, Reason.NO_PARTITION))}
        bare = kept[events[0].request_id]
        assert (bare.instruction, bare.action, bare.session_id, bare.is_billable) == (None, None, None, True)
        assert [kept[event.request_id] for event in (events[1], other)] == [events[1], other]

        await set_aside(
            connection, [letters[0], *(DeadLetter(payload=encode(bare), reason=Reason.NO_PARTITION, detail="") for _ in "1")]
        )
        again = await delete(house.places(), Wanted(customer_id=house.customer_id, session_id="ep-1"))
        assert again.left == ()
        assert [decode(one) for one in await take_out(connection, Reason.NO_PARTITION)] == [bare]

        newer = DeadLetter(payload=b"a newer release of " + house.customer_id.bytes, reason=Reason.UNKNOWN_SCHEMA, detail="")
        await set_aside(connection, [newer])
    finally:
        await connection.close()
    unproved = await delete(house.places(), Wanted(customer_id=house.customer_id))
    assert "1 usage events that this release cannot read" in unproved.left[0]


async def test_a_request_of_nobody_is_said_to_be_none(house: House) -> None:
    with pytest.raises(ApiError) as refused:
        await customer_of(house.engine, mint())
    assert (refused.value.kind.code, refused.value.param) == ("not_found", "request")
