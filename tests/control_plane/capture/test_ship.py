"""From local files to objects: whole sessions, the manifest last, each request once, whatever is killed or away in between."""

import asyncio
import hashlib
import io
import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from control_plane.capture.part import MANIFEST, ROOT, org_of
from control_plane.capture.sample import Sample, Shot, Terms
from control_plane.capture.ship import FEEDBACK_WAIT_S
from control_plane.identity.data_policy import DataPolicy
from control_plane.objects import ObjectStoreAwayError
from control_plane.sampling import Rules
from control_plane.usage.segment import segments
from tests.control_plane.capture.conftest import House
from tests.control_plane.capture.making import a_picture
from tests.control_plane.fake_objects import FakeObjects
from tests.control_plane.fakes import ROOT as REPOSITORY


async def test_a_session_becomes_one_episode_with_the_bytes_as_they_came(house: House) -> None:
    samples = [house.sample(seed, session_id=f"ep-{seed % 2}") for seed in range(6)]
    house.write(*samples)
    assert await house.shipper().step() == 6
    manifests = {manifest.session_id: manifest for manifest in await house.manifests()}
    assert set(manifests) == {"ep-0", "ep-1"}
    one = manifests["ep-1"]
    assert (one.frames, one.is_whole, one.data_policy, one.org) == (3, True, "train", org_of(house.customer_id))
    assert one.summary.consents == [samples[0].terms.consent_id]
    assert (one.summary.decisions, one.summary.kept_because) == ({"pass": 3}, {"every": 3})
    assert one.summary.words == samples[0].words
    part = await house.objects.get(one.parts[0].key)
    assert hashlib.sha256(part).hexdigest() == one.parts[0].sha256
    key = one.parts[0].key
    assert key.startswith(f"{ROOT}policy=train/keep=365/dt={datetime.now(UTC):%Y-}")
    assert f"/org={one.org}/robot=franka_panda/ep={one.episode.hex}/" in key
    assert house.customer_id.hex not in key
    sent = {sample.request_id: sample for sample in samples}
    for frame, pictures in await house.frames():
        sample = sent[frame.request_id]
        assert pictures == {"front": sample.shots[0].data}
        assert (frame.instruction, frame.action, frame.state) == (sample.instruction, sample.action, sample.state)
    assert segments(house.folder) == []
    assert house.counted("stored") == 6


async def test_an_episode_is_invisible_until_its_session_is_over(house: House) -> None:
    house.write(house.sample(0))
    assert await house.shipper(idle_s=3600).step() == 1
    assert await house.manifests() == []
    house.write(house.sample(1))
    await house.shipper().step()
    (manifest,) = await house.manifests()
    assert (manifest.frames, len(manifest.parts)) == (2, 2)
    house.write(house.sample(2))
    await house.shipper().step()
    assert sorted(manifest.frames for manifest in await house.manifests()) == [1, 2]


async def test_pixels_without_a_file_become_a_lossless_one(house: House) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 6, 3), np.uint8)
    house.write(house.sample(shots=(Shot(camera="front", kind="rgb", data=pixels.tobytes(), shape=(8, 6)),)))
    await house.shipper().step()
    ((frame, pictures),) = await house.frames()
    assert frame.pictures["front"].endswith(".png")
    with Image.open(io.BytesIO(pictures["front"])) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


async def test_while_the_store_is_away_frames_wait_and_are_then_stored_once(house: House) -> None:
    house.write(*(house.sample(seed) for seed in range(3)))
    away = FakeObjects(fails=lambda _verb, _key: True)
    with pytest.raises(ObjectStoreAwayError):
        await house.shipper(objects=away).step()
    assert len(segments(house.folder)) == 1
    assert await house.shipper().step() == 3
    assert [frame.seq for frame, _ in await house.frames()] == [0, 1, 2]


async def test_a_worker_that_dies_between_object_and_row_leaves_no_duplicate_and_no_half_episode(house: House) -> None:
    house.write(*(house.sample(seed) for seed in range(3)))
    store = FakeObjects(fails=lambda verb, key: verb == "put" and key.endswith(MANIFEST))
    with pytest.raises(ObjectStoreAwayError):
        await house.shipper(objects=store).step()
    assert [key for key in store.kept if key.endswith(MANIFEST)] == []
    store.fails = lambda _verb, _key: False
    assert await house.shipper(objects=store).step() == 0  # the frames are there; now the manifest is
    assert len([key for key in store.kept if key.endswith(MANIFEST)]) == 1
    assert await house.scalar("SELECT count(*) FROM captured_frames") == 3
    assert await house.scalar("SELECT state FROM captured_episodes") == "closed"


async def test_the_same_request_in_two_files_is_one_frame(house: House) -> None:
    sample = house.sample()
    house.write(sample, sample)
    house.write(sample)
    await house.shipper().step()
    assert len(await house.frames()) == 1
    assert house.counted("duplicate") == 2


async def test_what_the_customer_has_withdrawn_meanwhile_is_not_stored(house: House) -> None:
    house.write(house.sample(0), house.sample(1, customer_id=uuid4()))
    await house.agree(DataPolicy.STANDARD)
    assert await house.shipper().step() == 0
    assert await house.objects.find("") == []
    assert house.counted("withdrawn") == 2


async def test_debug_and_train_are_kept_apart_and_for_their_own_time(house: House) -> None:
    debug = Terms(policy="debug", version=3, consent_id=None, keep_days=7)
    house.write(house.sample(0), house.sample(1, terms=debug))
    await house.shipper().step()
    kept = {manifest.data_policy: (manifest.keep_until - manifest.last_at).days for manifest in await house.manifests()}
    assert kept == {"train": 365, "debug": 7}


async def test_what_only_feedback_would_keep_waits_for_it_and_then_goes(house: House) -> None:
    rules = Rules(every=0, feedback=True)
    praised, other = house.sample(0, kept_because=(), session_id="praised"), house.sample(1, kept_because=(), session_id="other")
    house.write(praised, other)
    assert await house.shipper(rules=rules).step() == 0
    (path,) = segments(house.folder)
    await house.execute(
        "INSERT INTO feedback (id, customer_id, key_id, session_id, outcome) VALUES (:id, :customer, :id, 'praised', 'success')",
        id=uuid4(),
        customer=house.customer_id,
    )
    long_ago = path.stat().st_mtime - FEEDBACK_WAIT_S - 1
    os.utime(path, (long_ago, long_ago))
    assert await house.shipper(rules=rules).step() == 1
    assert house.counted("not_sampled") == 1
    assert await house.scalar("SELECT session_id FROM captured_episodes") == "praised"


async def test_a_file_that_is_shipped_again_after_more_feedback_adds_a_part_and_keeps_the_first(house: House) -> None:
    rules = Rules(every=0, feedback=True)
    first, second = (house.sample(seed, kept_because=(), session_id="praised later") for seed in range(2))
    other = house.sample(2, kept_because=(), session_id="away")
    house.write(first, second, other)
    (path,) = segments(house.folder)
    long_ago = path.stat().st_mtime - FEEDBACK_WAIT_S - 1
    os.utime(path, (long_ago, long_ago))
    for sample in (first, other):
        await _praise(house, sample)
    store = FakeObjects()
    store.fails = lambda verb, _key: verb == "put" and len(store.kept) > 0
    with pytest.raises(ObjectStoreAwayError):
        await house.shipper(objects=store, rules=rules).step()
    store.fails = lambda _verb, _key: False
    await _praise(house, second)
    assert await house.shipper(objects=store, rules=rules).step() == 2
    house.objects = store
    assert {frame.request_id for frame, _ in await house.frames()} == {one.request_id for one in (first, second, other)}


async def _praise(house: House, sample: Sample) -> None:
    await house.execute(
        "INSERT INTO feedback (id, customer_id, key_id, request_id, outcome) VALUES (:id, :customer, :id, :request, 'success')",
        id=uuid4(),
        customer=house.customer_id,
        request=sample.request_id,
    )


async def test_a_torn_file_gives_what_was_whole_and_keeps_no_picture(house: House) -> None:
    """Neither its tail nor what an older release set aside: nobody would ever delete it."""
    house.write(house.sample(0), house.sample(1))
    (path,) = segments(house.folder)
    path.write_bytes(path.read_bytes()[:-50])
    path.with_name("older.torn").write_bytes(a_picture(5))
    assert await house.shipper().step() == 1
    assert list(house.folder.iterdir()) == []
    assert (house.counted("stored"), house.counted("torn")) == (1, 2)


_CHILD = """
import asyncio, sys
from pathlib import Path
from control_plane.capture.ship import Shipper
from control_plane.db import create_engine
from control_plane.logs import create_log
from control_plane.metrics import create_metrics
from control_plane.objects import create_objects
from control_plane.sampling import Rules

async def run():
    folder, database, objects = sys.argv[1:]
    shipper = Shipper(Path(folder), engine=create_engine(database, timeout_s=30), objects=create_objects(objects), rules=Rules(),
                      idle_s=0.2, metrics=create_metrics(), log=create_log("error"))
    print("ready", flush=True)
    while True:
        await shipper.step()
        await asyncio.sleep(0.05)
asyncio.run(run())
"""


async def test_killed_again_and_again_every_request_is_stored_exactly_once(
    house: House, database_url: str, objects_url: str
) -> None:
    samples = [house.sample(seed, session_id=f"ep-{seed % 5}") for seed in range(60)]
    for start in range(0, 60, 6):
        house.write(*samples[start : start + 6])
    dice = random.Random(7)
    arguments = [sys.executable, "-c", _CHILD, str(house.folder), database_url, objects_url]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    for _ in range(4):
        child = await asyncio.create_subprocess_exec(*arguments, env=environment, stdout=subprocess.PIPE, cwd=REPOSITORY)
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
        await asyncio.sleep(dice.uniform(0.02, 0.5))
        child.kill()
        await child.wait()
    while segments(house.folder) or await house.scalar(
        "SELECT count(*) FROM captured_episodes WHERE state = 'open' AND frames > 0"
    ):
        await house.shipper().step()
    frames = [frame.request_id for frame, _ in await house.frames()]
    assert sorted(frames) == sorted(sample.request_id for sample in samples)
    for manifest in await house.manifests():
        for part in manifest.parts:
            assert hashlib.sha256(await house.objects.get(part.key)).hexdigest() == part.sha256
    assert a_picture(3) in [pictures["front"] for _, pictures in await house.frames()]
