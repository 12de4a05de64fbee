"""Deleting much, deleting while a store fails, and what is linked in other ways than by name: nothing is left, or it is said."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import insert
from sqlalchemy.event import listen

from control_plane.capture import erase, letters
from control_plane.capture.asked import Wanted
from control_plane.capture.deletion import delete
from control_plane.capture.forget import AT_ONCE
from control_plane.capture.part import ROOT
from control_plane.capture.sample import Sample
from control_plane.capture.tables import dataset_members, datasets
from control_plane.db import create_engine
from control_plane.objects import ObjectStore, ObjectStoreAwayError
from control_plane.usage.dead_letters import DeadLetter, Reason, set_aside
from control_plane.usage.event import encode
from tests.control_plane.capture.conftest import House
from tests.control_plane.capture.test_erase import logged, sweeper
from tests.control_plane.fakes import ROOT as REPOSITORY
from tests.control_plane.usage.making import make_event

_ROWS = """
INSERT INTO inference_logs (request_id, timestamp, customer_id, key_id, route, model, model_version, robot_type,
                            latency_ms, status, is_billable, payload_hash, instruction, session_id)
SELECT id, uuid_extract_timestamp(id), :customer, :customer, '/v1/inference', 'tabletop', 1, 'franka_panda',
       1.0, 'success', true, 'hash', 'pick up', 'ep-' || n % 2
FROM (SELECT n, uuidv7(-(n % 2) * interval '1 day') AS id FROM generate_series(1, :count) AS n) AS made
"""
_FEEDBACK = """
INSERT INTO feedback (id, customer_id, key_id, request_id, session_id, outcome)
VALUES (:id, :customer, :id, :request, :session, 'success')
"""


class Misbehaving:
    """A real store, of which some calls do nothing, or fail so many times. Everything else is the store's own."""

    def __init__(
        self,
        objects: ObjectStore,
        *,
        deaf: Sequence[str] = (),
        failing: str = "",
        times: int = 0,
        before_removing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._objects, self._deaf, self._failing, self.times = objects, deaf, failing, times
        self._before_removing = before_removing

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._objects, name)

        async def call(*arguments: Any) -> Any:
            if name == self._failing and self.times > 0:
                self.times -= 1
                raise ObjectStoreAwayError("away for a moment")
            if name == "remove" and self._before_removing is not None:
                await self._before_removing()
            return None if name in self._deaf else await real(*arguments)

        return real if name == "pages" else call


async def said(house: House, *, request: UUID | None = None, session: str | None = None) -> None:
    await house.execute(_FEEDBACK, id=uuid4(), customer=house.customer_id, request=request, session=session)


async def captured(house: House, database_url: str, *, sessions: int = 1) -> list[Sample]:
    """Some frames of each session, in the store and in the log."""
    samples = [house.sample(seed, session_id=f"ep-{seed % sessions}") for seed in range(2 * sessions)]
    house.write(*samples)
    await house.shipper().step()
    await logged(house, database_url, *samples)
    return samples


async def test_a_customer_with_many_rows_is_forgotten_step_by_step_through_one_connection(
    house: House, database_url: str
) -> None:
    await logged(house, database_url)  # partitions
    await house.execute(_ROWS, customer=house.customer_id, count=2 * AT_ONCE + 500)
    engine, steps = create_engine(database_url, pool_size=1, timeout_s=2.0), [0]
    try:
        places = house.places(engine=engine)
        half = await delete(places, Wanted(customer_id=house.customer_id, session_id="ep-1"))
        rest = await delete(places, Wanted(customer_id=house.customer_id), told=lambda _, count: steps.append(count))
    finally:
        await engine.dispose()
    assert (half.log_rows, rest.log_rows) == (AT_ONCE + 250, AT_ONCE + 250)
    assert (half.left, rest.left) == ((), ())
    assert await house.scalar("SELECT count(*) FROM inference_logs WHERE instruction IS NOT NULL OR session_id IS NOT NULL") == 0
    assert max(after - before for before, after in pairwise(steps)) <= AT_ONCE
    assert steps[-1] == 2 * AT_ONCE + 500


async def test_a_store_that_is_away_for_a_moment_costs_nothing(house: House, database_url: str) -> None:
    await captured(house, database_url)
    store = Misbehaving(house.objects, failing="remove", times=2)
    proof = await delete(house.places(store), Wanted(customer_id=house.customer_id))
    assert (proof.episodes, proof.left) == (1, ())
    assert await house.objects.find(ROOT) == []


async def test_broken_off_by_an_outage_it_is_run_again_and_proves_all_of_it(house: House, database_url: str) -> None:
    await captured(house, database_url)
    episode, dataset = (await house.manifests())[0].episode, uuid4()
    async with house.engine.begin() as connection:
        await connection.execute(insert(datasets).values(id=dataset, place="/data/red", asked={}))
        await connection.execute(insert(dataset_members).values(dataset_id=dataset, episode_id=episode, split="train"))
    wanted = Wanted(customer_id=house.customer_id, session_id="ep-0")
    store = Misbehaving(house.objects, failing="remove", times=99)
    with pytest.raises(ObjectStoreAwayError):
        await delete(house.places(store), wanted)
    assert await house.scalar("SELECT count(*) FROM data_deletions WHERE proved_at IS NULL") == 1
    proof = await delete(house.places(), wanted)
    assert (proof.left, proof.dataset_members) == ((), 1)
    assert "/data/red" in proof.remarks[0]
    assert await house.scalar("SELECT count(*) FROM data_deletions WHERE proved_at IS NULL") == 0


_CHILD = """
import asyncio, sys
from uuid import UUID
from control_plane.audit.record import By
from control_plane.capture.asked import Wanted
from control_plane.capture.deletion import delete
from control_plane.capture.look_again import Places
from control_plane.db import create_engine
from control_plane.objects import create_objects
from control_plane.redis import create_redis
async def run():
    database, redis, objects, customer = sys.argv[1:]
    places = Places(engine=create_engine(database, pool_size=1, timeout_s=30), redis=create_redis(redis, timeout_s=5),
                    objects=create_objects(objects), by=By(actor="a child"))
    await delete(places, Wanted(customer_id=UUID(customer)), told=lambda what, count: print(what, count, flush=True))
asyncio.run(run())
"""


async def test_killed_in_the_middle_it_is_run_again_and_proves_all_of_it(
    house: House, database_url: str, clean_redis_url: str, objects_url: str
) -> None:
    await captured(house, database_url, sessions=12)
    arguments = [sys.executable, "-c", _CHILD, database_url, clean_redis_url, objects_url, str(house.customer_id)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    child = await asyncio.create_subprocess_exec(*arguments, env=environment, stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"episodes 1\n"
    child.kill()
    await child.wait()
    assert len(await house.objects.find(ROOT)) > 0
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id))
    assert (proof.log_rows, proof.left) == (24, ())
    assert await house.objects.find(ROOT) == []
    assert await house.scalar("SELECT count(*) FROM data_deletions WHERE proved_at IS NULL") == 0


@pytest.mark.parametrize("what", ["session", "request"])
async def test_the_store_itself_is_asked_also_for_a_session_and_a_request(house: House, database_url: str, what: str) -> None:
    samples = await captured(house, database_url)
    wanted = Wanted(customer_id=house.customer_id, session_id="ep-0")
    if what == "request":
        wanted = Wanted(customer_id=house.customer_id, request_id=samples[0].request_id)
    deaf = Misbehaving(house.objects, deaf=("remove", "put"))
    for _ in range(2):  # also when it is run again, when the rows know nothing any more
        proof = await delete(house.places(deaf), wanted)
        assert "objects in the store" in proof.left[0]
    assert await house.scalar("SELECT count(*) FROM data_deletions WHERE proved_at IS NOT NULL") == 0


async def test_a_part_that_no_row_knows_is_found_by_request_and_swept_after_a_day(house: House, database_url: str) -> None:
    """What a shipper leaves that was killed between the object and its row."""
    samples = await captured(house, database_url)
    (part,) = (await house.manifests())[0].parts
    data = await house.objects.get(part.key)
    stray = part.key.replace("part-", "part-0")
    await house.objects.put(stray, data)
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id, request_id=samples[0].request_id))
    assert (proof.objects, proof.left) == (2, ())
    assert stray not in [found.key for found in await house.objects.find(ROOT)]
    await house.objects.put(stray, b"another")
    await sweeper(house).step()
    assert len(await house.objects.find(ROOT)) == 3
    await sweeper(house).step(now=datetime.now(UTC) + timedelta(days=2))
    assert [found.key for found in await house.objects.find(ROOT)] == [part.key.rpartition("/")[0] + "/manifest.json", part.key]


async def test_feedback_that_names_only_a_request_goes_with_its_session(house: House, database_url: str) -> None:
    samples = await captured(house, database_url, sessions=2)
    only_logged = house.sample(9, session_id="ep-0")
    await logged(house, database_url, only_logged)
    for sample in (*samples, only_logged):
        await said(house, request=sample.request_id)
    await said(house, session="ep-0")
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id, session_id="ep-0"))
    assert (proof.feedback, proof.left) == (4, ())
    stayed = set(await house.scalar("SELECT array_agg(request_id) FROM feedback"))
    assert stayed == {sample.request_id for sample in samples if sample.session_id == "ep-1"}


async def test_feedback_on_the_session_of_a_deleted_request_stays_and_that_is_said(house: House, database_url: str) -> None:
    samples = await captured(house, database_url)
    await said(house, session="ep-0")
    await said(house, request=samples[0].request_id, session="ep-0")
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id, request_id=samples[0].request_id))
    assert (proof.feedback, proof.left) == (1, ())
    assert proof.remarks == ("1 feedback on the session of this request stays: it is about the session",)


async def test_days_that_were_written_to_files_are_named(house: House) -> None:
    await house.execute(
        "INSERT INTO usage_archive (day, exported_at, object_key, sha256, size_bytes, requests, billable_requests) "
        "VALUES ('2026-01-01', now(), 'key', 'hash', 1, 1, 1), ('2026-01-02', NULL, NULL, NULL, NULL, NULL, NULL)"
    )
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id))
    assert proof.remarks[0].startswith("2 archived days (1 of them written to files) keep instruction and action")
    assert proof.left == ()


async def test_what_a_customer_goes_on_to_send_is_neither_deleted_nor_left(house: House, database_url: str) -> None:
    await captured(house, database_url)

    async def go_on() -> None:
        house.write(house.sample(5, session_id="later"))
        await house.shipper().step()

    store = Misbehaving(house.objects, before_removing=go_on)
    proof = await delete(house.places(store), Wanted(customer_id=house.customer_id))
    assert (proof.episodes, proof.left) == (1, ())
    assert [manifest.session_id for manifest in await house.manifests()] == ["later"]


async def test_an_episode_of_the_session_that_began_after_it_was_asked_is_neither_deleted_nor_left(
    house: House, database_url: str
) -> None:
    await captured(house, database_url)
    earlier = (await house.manifests())[0].episode
    house.write(house.sample(5, session_id="ep-0"))
    await house.shipper().step()
    later = "UPDATE captured_episodes SET first_at = now() + interval '1 minute' WHERE id <> :earlier"
    await house.execute(later, earlier=earlier)
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id, session_id="ep-0"))
    assert (proof.episodes, proof.left) == (1, ())
    assert earlier not in {manifest.episode for manifest in await house.manifests()}
    assert len(await house.manifests()) == 1


async def test_a_long_episode_and_many_letters_go_in_steps(
    house: House, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement looks at some rows only, however many there are."""
    monkeypatch.setattr(erase, "AT_ONCE", 4)
    monkeypatch.setattr(letters, "AT_ONCE", 3)
    house.write(*(house.sample(seed) for seed in range(11)))
    await house.shipper().step()
    most, events = 0, [make_event(house.customer_id if n % 2 else uuid4()) for n in range(10)]
    connection = await asyncpg.connect(database_url)
    try:
        await set_aside(connection, [DeadLetter(payload=encode(one), reason=Reason.NO_PARTITION, detail="") for one in events])
    finally:
        await connection.close()

    def look(*arguments: Any) -> None:
        nonlocal most
        cursor, statement = arguments[1], arguments[2]
        if "DELETE FROM captured_frames" in statement:
            most = max(most, cursor.rowcount)

    listen(house.engine.sync_engine, "after_cursor_execute", look)
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id))
    assert (proof.episodes, proof.objects, proof.log_rows, proof.left) == (1, 2, 5, ())
    assert most == 4
    assert await house.scalar("SELECT count(*) FROM captured_frames") == 0
    assert await house.objects.find(ROOT) == []
