"""What stays of real traffic: searched for on the disks of every server, in the database, in Redis and in the logs.

A customer under `standard` is asked beside the one under `zero`, so that a search that could find nothing fails.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import numpy as np
import pytest
from PIL import Image
from redis.asyncio import Redis
from websockets.asyncio.client import unix_connect

from control_plane.customers.data_policy import NewDataPolicy
from control_plane.customers.verbs import set_data_policy
from control_plane.identity.data_policy import DataPolicy
from control_plane.keys.verbs import IssuedKey, list_keys
from control_plane.settings import load_settings
from control_plane.worker import create_worker
from tests.control_plane.eventually import eventually
from tests.control_plane.whole_app import PATH, answers, events_in, new_key, process, settings_of, stores, variables


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, triton_url: str, objects_url: str, tmp_path: Path) -> dict[str, str]:
    """With an object store: what is not kept is not kept although capture is on."""
    usual = variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path / "spool")
    return {**usual, "VLA_OBJECT_STORE_URL": objects_url, "VLA_CAPTURE_IDLE_S": "1"}


def a_picture(seed: int, folder: Path) -> bytes:
    """A JPEG like no other."""
    path = folder / f"{seed}.jpg"
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)).save(path, quality=90)
    data = path.read_bytes()
    path.unlink()
    return data


def traces_of(picture: bytes) -> list[bytes]:
    """Pieces of a picture, as it is and in base64 at each of the three places where a group can begin."""
    middle = len(picture) // 2 // 3 * 3
    return [picture[middle : middle + 24], *(base64.b64encode(picture[middle + at : middle + at + 24]) for at in range(3))]


def found(folders: list[Path], wanted: bytes) -> list[str]:
    """Every file below those folders that holds it."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in files if wanted in path.read_bytes()]


async def set_policy(environment: dict[str, str], key: IssuedKey, policy: DataPolicy) -> None:
    async with stores(settings_of(environment)) as there:
        owner = next(one.customer_id for one in await list_keys(there.engine) if one.id == key.id)
        await set_data_policy(there, owner, NewDataPolicy(policy=policy, given_by="a test"))


async def ask(client: httpx.AsyncClient, key: IssuedKey, picture: bytes, instruction: str, **more: Any) -> httpx.Response:
    body = {"image": base64.b64encode(picture).decode(), "instruction": instruction, "session_id": f"{instruction}-session"}
    headers = {"Authorization": f"Bearer {key.text}", **more.pop("headers", {})}
    return await client.post(PATH, json={**body, **more}, headers=headers)


async def by_socket(socket: Path, key: IssuedKey, picture: bytes, instruction: str) -> dict[str, Any]:
    request = {"image": base64.b64encode(picture).decode(), "instruction": instruction}
    headers = {"Authorization": f"Bearer {key.text}"}
    async with unix_connect(str(socket), "ws://test/v1/stream", additional_headers=headers, max_size=None) as there:
        await there.recv()
        await there.send(json.dumps({"id": 1, "request": request}))
        told: dict[str, Any] = json.loads(await there.recv())
        return told


async def recorded(environment: dict[str, str], rows: int) -> None:
    """Runs a worker until so many requests are rows."""
    stop = asyncio.Event()
    running = asyncio.create_task(create_worker(load_settings(environment)).run(stop))
    connection = await asyncpg.connect(environment["VLA_DATABASE_URL"])
    try:

        async def are_there() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM inference_logs") == rows)

        await eventually(are_there, within_s=60)
    finally:
        await connection.close()
        stop.set()
        await running


@pytest.fixture
def places(tmp_path: Path, server_folder: Path) -> list[Path]:
    """Everything that any server of the test writes: database with its log of changes, append-only file, spool, logs, objects."""
    return [server_folder, tmp_path]


@pytest.fixture
def socket(server_folder: Path) -> Iterator[Path]:
    path = server_folder / "policy.sock"
    yield path
    path.unlink(missing_ok=True)


async def test_under_zero_nothing_of_a_request_is_anywhere_and_under_standard_no_picture(
    environment: dict[str, str], places: list[Path], socket: Path, tmp_path: Path
) -> None:
    zero, usual, trains = [await new_key(settings_of(environment)) for _ in range(3)]
    await set_policy(environment, zero, DataPolicy.ZERO)
    await set_policy(environment, trains, DataPolicy.TRAIN)
    pictures = [a_picture(seed, tmp_path) for seed in range(5)]
    with process(environment, socket=socket, log=tmp_path / "api.log") as client:
        await answers(client)
        once = {"Idempotency-Key": "only-once"}
        first = await ask(client, zero, pictures[0], "pick up the secretzero cube", headers=once)
        again = await ask(client, zero, pictures[0], "pick up the secretzero cube", headers=once)
        assert again.json()["error"]["code"] == "answer_gone"
        told = await by_socket(socket, zero, pictures[1], "pick up the secretsocket cube")
        lower = await ask(client, usual, pictures[2], "pick up the secretheader cube", headers={"X-Data-Policy": "zero"})
        plain = await ask(client, usual, pictures[3], "pick up the openstandard cube", headers={"X-Data-Policy": "train"})
        refused = await ask(client, zero, pictures[0], "pick up the secretrefused cube", state=[0.0])
        kept_picture = await ask(client, trains, pictures[4], "pick up the opentrain cube")
        await client.aclose()
    assert found([tmp_path / "spool" / "capture"], traces_of(pictures[4])[0])
    assert [answer.status_code for answer in (first, lower, plain, refused, kept_picture)] == [200, 200, 200, 422, 200]
    chunks = [first.json()["action"]["chunk"], told["answer"]["action"]["chunk"], lower.json()["action"]["chunk"]]
    kept = plain.json()["action"]["chunk"]
    async with Redis.from_url(environment["VLA_REDIS_URL"]) as redis:
        events = await events_in(redis)
    assert [(event.instruction, event.session_id) for event in events if event.instruction is None] == [(None, None)] * 4
    await recorded(environment, rows=6)
    for word in (b"secretzero", b"secretsocket", b"secretheader", b"secretrefused"):
        assert found(places, word) == []
    for chunk in chunks:
        assert found(places, np.array(chunk[0], "<f4").tobytes()) == []
        assert found(places, json.dumps(chunk[0], separators=(",", ":")).encode()) == []
    for piece in (piece for picture in pictures[:4] for piece in traces_of(picture)):
        assert found(places, piece) == []
    assert any("postgres" in path for path in found(places, b"openstandard"))
    assert any("valkey" in path for path in found(places, b"openstandard"))
    assert kept
