"""Capture through the whole application: real requests, a killed API process, a shipper, and the objects that come of it."""

import os
import signal
from pathlib import Path

import pytest

from control_plane.capture.part import MANIFEST, ROOT, frames_in, manifest_in
from control_plane.capture.ship import Shipper
from control_plane.identity.data_policy import DataPolicy
from control_plane.logs import create_log
from control_plane.metrics import create_metrics
from control_plane.objects import ObjectStore, create_objects
from control_plane.sampling import Rules
from control_plane.usage.request_id import parse
from control_plane.usage.segment import segments
from tests.control_plane.capture.making import a_picture
from tests.control_plane.eventually import eventually
from tests.control_plane.test_data_policy_in_service import ask, set_policy
from tests.control_plane.whole_app import answers, new_key, pid_of, process, settings_of, stores, variables


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, triton_url: str, objects_url: str, tmp_path: Path) -> dict[str, str]:
    usual = variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path / "spool")
    return {**usual, "VLA_OBJECT_STORE_URL": objects_url, "VLA_CAPTURE_IDLE_S": "1"}


async def ship(environment: dict[str, str], objects: ObjectStore, *, frames: int) -> None:
    """As the worker does, until so many are stored and their sessions are over."""
    settings, stored = settings_of(environment), 0
    async with stores(settings) as there:
        shipper = Shipper(
            settings.capture_dir,
            engine=there.engine,
            objects=objects,
            rules=Rules(),
            idle_s=0,
            metrics=create_metrics(),
            log=create_log("error"),
        )

        async def are_there() -> bool:
            nonlocal stored
            stored += await shipper.step()
            return stored >= frames

        await eventually(are_there, within_s=60)
        await shipper.step()


async def test_what_an_opted_in_customer_asked_is_kept_as_it_was_and_survives_a_kill(
    environment: dict[str, str], objects_url: str, server_folder: Path, tmp_path: Path
) -> None:
    settings = settings_of(environment)
    trains, usual = [await new_key(settings) for _ in range(2)]
    await set_policy(environment, trains, DataPolicy.TRAIN)
    socket, pictures = server_folder / "capture.sock", [a_picture(seed, size=(224, 224)) for seed in range(4)]
    with process(environment, socket=socket, log=tmp_path / "api.log") as client:
        await answers(client)
        told = [await ask(client, trains, pictures[seed], "pick up the red cube") for seed in range(3)]
        less = await ask(client, trains, pictures[3], "pick up the red cube", headers={"X-Data-Policy": "standard"})
        other = await ask(client, usual, pictures[3], "pick up the red cube")
        assert [answer.status_code for answer in (*told, less, other)] == [200] * 5

        async def are_written() -> bool:
            text = (await client.get("/metrics")).text
            return 'vla_capture_frames_total{outcome="spooled"} 3.0' in text

        await eventually(are_written)
        os.kill(pid_of(socket), signal.SIGKILL)
        await client.aclose()
    objects = create_objects(objects_url)
    await ship(environment, objects, frames=3)
    (key,) = [found.key for found in await objects.find(ROOT) if found.key.endswith(MANIFEST)]
    manifest = manifest_in(await objects.get(key))
    frames = [frame for part in manifest.parts for frame in frames_in(await objects.get(part.key))]
    await objects.aclose()
    assert segments(settings.capture_dir) == []
    assert [frame.request_id for frame, _ in frames] == [parse(answer.json()["request_id"]) for answer in told]
    assert [shown["front"] for _, shown in frames] == pictures[:3]
    assert [frame.action for frame, _ in frames] == [answer.json()["action"]["chunk"] for answer in told]
    assert (manifest.session_id, manifest.is_whole) == ("pick up the red cube-session", True)
