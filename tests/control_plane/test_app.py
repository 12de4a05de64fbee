"""The whole web process over real PostgreSQL, Valkey and Triton: from a key and a picture to a metered, recorded motion."""

import asyncio
import base64
import json
import os
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from redis.asyncio import Redis

from billing.tiers import Tier
from control_plane.metrics import MULTIPROC_DIR
from control_plane.settings import Settings, SettingsError
from control_plane.usage.event import UsageStatus
from tests.conftest import free_port
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import ROOT
from tests.control_plane.own_servers import own_valkey
from tests.control_plane.whole_app import (
    MINIMAL,
    PATH,
    answers,
    events_in,
    new_key,
    post,
    process,
    running,
    settings_of,
    variables,
)


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, triton_url: str, tmp_path: Path) -> dict[str, str]:
    return variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path / "spool")


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return settings_of(environment)


async def test_an_image_and_an_instruction_become_a_safe_metered_recorded_motion(settings: Settings) -> None:
    key = await new_key(settings)
    async with running(settings) as client:
        response = await post(client, key)
    body = response.json()
    assert response.status_code == 200, response.text
    assert np.isfinite(body["action"]["chunk"]).all()
    assert (len(body["action"]["chunk"]), len(body["action"]["values"])) == (8, 7)
    assert body["safety"]["decision"] in {"pass", "clamp"}
    assert body["usage"] == {"requests_remaining_minute": 99, "requests_remaining_day": 9999, "requests_remaining_month": 99999}
    async with Redis.from_url(str(settings.redis_url)) as redis:
        (event,) = await events_in(redis)
    assert body["request_id"] == f"inf_{event.request_id.hex}"
    assert (event.status, event.policy, event.instruction) == (UsageStatus.SUCCESS, "tabletop", "pick up red cube")
    assert event.action == body["action"]["chunk"]


async def test_a_triton_address_that_is_none_stops_the_start(environment: dict[str, str]) -> None:
    settings = settings_of({**environment, "VLA_TRITON_URL": "triton:8001, http://other:8001"})
    with pytest.raises(SettingsError, match="VLA_TRITON_URL: 'http://other:8001' is not host:port"):
        async with running(settings):
            pass


async def test_the_same_observation_gives_the_same_motion_on_every_wire(settings: Settings) -> None:
    key = await new_key(settings)
    picture = base64.b64decode(MINIMAL["image"])
    bearer = {"Authorization": f"Api-Key {key.text}"}
    async with running(settings) as client:
        as_json = await post(client, key)
        as_form = await client.post(PATH, files={"image": picture}, data={"instruction": MINIMAL["instruction"]}, headers=bearer)
        packed = msgspec.msgpack.encode({"image": picture, "instruction": MINIMAL["instruction"]})
        headers = {**bearer, "Content-Type": "application/msgpack"}
        as_msgpack = await client.post(PATH, content=packed, headers=headers)
    chunks = [response.json()["action"]["chunk"] for response in (as_json, as_form, as_msgpack)]
    assert np.allclose(chunks[0], chunks[1], atol=1e-5)
    assert np.allclose(chunks[0], chunks[2], atol=1e-5)


async def test_64_at_once_on_10_a_minute_get_exactly_10_answers(settings: Settings) -> None:
    key = await new_key(settings, tier=Tier.FREE)
    async with running(settings) as client:
        responses = await asyncio.gather(*(post(client, key) for _ in range(64)))
    outcomes = Counter("answered" if response.status_code == 200 else response.json()["error"]["code"] for response in responses)
    # The free tier also bounds how many may be in flight; each refusal is one of the two, and none is counted twice.
    while outcomes["answered"] < 10:
        async with running(settings) as client:
            again = await post(client, key)
        outcomes["answered" if again.status_code == 200 else again.json()["error"]["code"]] += 1
    assert outcomes["answered"] == 10
    assert set(outcomes) <= {"answered", "minute_limit", "concurrency_limit"}
    async with running(settings) as client:
        refused = await post(client, key)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "minute_limit"
    assert int(refused.headers["retry-after"]) >= 1


async def test_a_mistake_counts_against_the_limit_and_is_recorded(settings: Settings) -> None:
    key = await new_key(settings)
    async with running(settings) as client:
        wrong = await post(client, key, {**MINIMAL, "state": [0.0]})
        right = await post(client, key)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "state")
    assert "ratelimit" in wrong.headers
    assert right.json()["usage"]["requests_remaining_day"] == 9998
    async with Redis.from_url(str(settings.redis_url)) as redis:
        assert [event.status for event in await events_in(redis)] == [UsageStatus.INVALID, UsageStatus.SUCCESS]


async def test_without_triton_the_robot_holds_and_nothing_is_counted(environment: dict[str, str]) -> None:
    settings = settings_of(environment, triton_url=f"127.0.0.1:{free_port().number}")
    key = await new_key(settings)
    async with running(settings) as client:
        response, again = await post(client, key), await post(client, key)
        ready = await client.get("/ready")
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["robot_action"]) == (503, "policy_unavailable", "hold")
    assert response.headers["retry-after"] == "1"
    assert '"day";r=9999;' in response.headers["ratelimit"]
    assert '"day";r=9999;' in again.headers["ratelimit"]
    assert (ready.status_code, ready.json()["dependencies"]["triton"]) == (503, "down")


async def test_without_postgres_a_known_key_is_still_answered(environment: dict[str, str]) -> None:
    settings = settings_of(environment)
    key = await new_key(settings)
    async with Redis.from_url(str(settings.redis_url)) as redis:
        await redis.flushall()  # the announcement of a key that has just been made is not to be overwritten at once
    async with running(settings) as client:
        assert (await post(client, key)).status_code == 200
    away = settings_of(environment, database_url=f"postgresql://nobody:x@127.0.0.1:{free_port().number}/none")
    async with running(away) as client:
        known = await post(client, key)
        ready = await client.get("/ready")
    assert known.status_code == 200
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["dependencies"] == {"redis": "up", "postgres": "down", "triton": "up"}


async def test_when_redis_dies_answers_go_on_and_their_events_wait_in_the_spool(environment: dict[str, str]) -> None:
    async with own_valkey() as valkey:
        settings = settings_of(environment, redis_url=valkey.url)
        key = await new_key(settings)
        async with running(settings) as client:
            assert (await post(client, key)).status_code == 200
            valkey.kill()
            alone = await post(client, key)
            ready = await client.get("/ready")
            assert alone.status_code == 200
            assert alone.json()["usage"]["requests_remaining_day"] is None
            assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
            await valkey.start()
            async with Redis.from_url(valkey.url) as redis:

                async def both_are_there() -> bool:
                    return len({event.request_id for event in await events_in(redis)}) == 2

                await eventually(both_are_there)


async def test_two_processes_count_together_and_log_no_secret(environment: dict[str, str], tmp_path: Path) -> None:
    settings = settings_of(environment)
    key = await new_key(settings)
    folder = tmp_path / "metrics"
    folder.mkdir()
    shared = {**environment, MULTIPROC_DIR: str(folder), "VLA_LOG_LEVEL": "debug"}
    sockets = Path(str(settings.spool_dir)).parent
    body = {**MINIMAL, "instruction": "pick up the red cube marked swordfish"}
    with (
        process(shared, socket=sockets / "a", log=tmp_path / "a.log") as first,
        process(shared, socket=sockets / "b", log=tmp_path / "b.log") as second,
    ):
        await asyncio.gather(answers(first), answers(second))
        for client, count in ((first, 2), (second, 3)):
            for _ in range(count):
                assert (await post(client, key, body)).status_code == 200
        assert (await post(first, key, {**body, "image": "broken"})).status_code == 422
        texts = [(await client.get("/metrics")).text for client in (first, second)]
        await first.aclose()
        await second.aclose()
    for text in texts:
        assert f'vla_requests_total{{outcome="success",policy="tabletop",route="{PATH}"}} 5.0' in text
        assert f'vla_request_duration_seconds_count{{policy="tabletop",route="{PATH}"}} 5.0' in text
        assert "vla_in_flight_requests 0.0" in text
        assert 'vla_journal_writes_total{sink="stream"} 5.0' in text
    logs = (tmp_path / "a.log").read_text() + (tmp_path / "b.log").read_text()
    requests = [entry for line in logs.splitlines() if line.startswith("{") and (entry := json.loads(line))["event"] == "request"]
    assert Counter(entry["outcome"] for entry in requests if entry["route"] == PATH) == {"success": 5, "invalid_image": 1}
    secrets = (key.text, key.text[14:], "swordfish", MINIMAL["image"][:40], environment["VLA_KEY_PEPPER"])
    assert [secret for secret in secrets if secret in logs] == []


async def test_bodies_that_are_too_large_too_slow_or_cut_off_end_where_they_should(
    environment: dict[str, str], tmp_path: Path
) -> None:
    key = await new_key(settings_of(environment))
    bounded = {**environment, "VLA_MAX_BODY_BYTES": "100000", "VLA_BODY_TIMEOUT_S": "0.5"}
    socket = Path(environment["VLA_SPOOL_DIR"]).parent / "a"
    start = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key.text}\r\nContent-Type: application/json\r\n".encode()

    async def sent(rest: bytes) -> bytes:
        """Everything that comes back until the server hangs up."""
        reader, writer = await asyncio.open_unix_connection(str(socket))
        writer.write(start + rest)
        answer = await reader.read()
        writer.close()
        return answer

    with process(bounded, socket=socket, log=tmp_path / "a.log") as client:
        await answers(client)
        declared = await sent(b"Content-Length: 100001\r\n\r\n")
        chunked = await sent(
            b"Transfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + b"x" * 0x4000 + b"\r\n" + b"186A0\r\n" + b"x" * 100_000
        )
        slow = await sent(b'Content-Length: 1000\r\n\r\n{"image": "')
        _, writer = await asyncio.open_unix_connection(str(socket))
        writer.write(start + b'Content-Length: 1000\r\n\r\n{"image": "')
        writer.close()
        assert (await client.get("/health")).status_code == 200
        await client.aclose()
    statuses = [int(answer.split(b" ", 2)[1]) for answer in (declared, chunked, slow)]
    assert statuses == [413, 413, 408]
    assert all(b'"request_id":"inf_' in answer for answer in (declared, chunked, slow))
    assert "unmapped_failure" not in (tmp_path / "a.log").read_text()


async def test_a_caller_who_hangs_up_gets_the_request_settled(environment: dict[str, str], tmp_path: Path) -> None:
    key = await new_key(settings_of(environment))
    socket = Path(environment["VLA_SPOOL_DIR"]).parent / "a"
    body = msgspec.json.encode(MINIMAL)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key.text}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with process(environment, socket=socket, log=tmp_path / "a.log") as client:
        await answers(client)
        for _ in range(5):
            _, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(head.encode() + body)
            await writer.drain()
            writer.close()
        after = await post(client, key)

        async def nothing_is_in_flight() -> bool:
            return "vla_in_flight_requests 0.0" in (await client.get("/metrics")).text

        await eventually(nothing_is_in_flight)
        await client.aclose()
    assert after.status_code == 200
    async with Redis.from_url(environment["VLA_REDIS_URL"]) as redis:
        events = await events_in(redis)
        held = [name async for name in redis.scan_iter("vla:*") if await redis.type(name) == b"zset"]
        assert [await redis.zcard(name) for name in held] == [0] * len(held)
    # Who was gone before the body was read was never admitted; everybody else has one event, whatever became of them.
    assert 1 <= len(events) == len({event.request_id for event in events}) <= 6
    assert {event.error_code for event in events} <= {None, "cancelled"}


_PICTURES = """
import ctypes, io, resource
from PIL import Image
from control_plane import app
from control_plane.inference import images
from export.contract.bicubic import bicubic

file = io.BytesIO()
Image.effect_noise((640, 480), 60).convert("RGB").save(file, "JPEG")

def pages(pictures):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(pictures):
        bicubic(images.read(file.getvalue(), param="image", max_pixels=10**6), (224, 224))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# What glibc begins with; it learns by itself to keep more, from sizes that happened to be freed before.
for parameter in (app._M_MMAP_THRESHOLD, app._M_TRIM_THRESHOLD):
    ctypes.CDLL(None).mallopt(parameter, 128 * 1024)
given_back = pages(20), pages(20)
app._keep_memory()
pages(20)
print(given_back[1], pages(20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")
def test_memory_of_pictures_is_not_given_back_between_two_requests() -> None:
    """By the pages that the kernel had to bring: some 670 for each picture of 640×480, or next to none."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", _PICTURES], env=environment, capture_output=True, text=True, check=True).stdout
    given_back, kept = map(int, told.split())
    assert given_back > 20 * 100
    assert kept < 20 * 10
