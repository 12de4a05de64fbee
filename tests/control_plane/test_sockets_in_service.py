"""Sockets through nginx into an API process with its real stores and Triton: openpi's unmodified client, from a key to a row."""

import asyncio
import base64
import io
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from redis.asyncio import Redis
from websockets.exceptions import InvalidStatus

from control_plane.keys.verbs import IssuedKey, revoke_key
from control_plane.usage.event import UsageStatus
from deploy.embedded.binaries import program
from deploy.embedded.nginx import Door, nginx, system_nginx
from tests.conftest import ENVIRONMENT, free_port
from tests.conftest import running as started
from tests.control_plane.protocols.serving import FRAME, opened, openpi_client, packed, unpacked
from tests.control_plane.whole_app import (
    answers,
    events_in,
    new_key,
    process,
    settings_of,
    stores,
    variables,
)

# What openpi's client does, and cannot be changed here: websockets 17 wants a context manager.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")

OBSERVATION: dict[str, Any] = {"observation/image": FRAME, "prompt": "pick up red cube"}


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, triton_url: str, tmp_path: Path) -> dict[str, str]:
    return variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path / "spool")


@contextmanager
def door(folder: Path, upstream: Path) -> Iterator[str]:
    """nginx as `make up` configures it; gives its address."""
    place = Door(
        program=program("nginx", override=system_nginx(), setting="VLA_NGINX_BIN"),
        folder=folder / "nginx",
        access_log=folder / "access.log",
        port=free_port(),
        upstreams=(upstream,),
        max_body_bytes=10_000_000,
        body_timeout_s=10,
        key_per_s=1000,
        address_per_s=1000,
        errors_url="http://127.0.0.1/errors",
    )
    with started(nginx(place, environment=ENVIRONMENT), log=folder / "nginx.log"):
        yield f"127.0.0.1:{place.port.number}"


@asynccontextmanager
async def service(environment: dict[str, str], folder: Path, short: Path) -> AsyncIterator[str]:
    socket = short / f"ws-{time.monotonic_ns() % 10**6}"
    with process(environment, socket=socket, log=folder / "api.log") as client, door(folder, socket) as address:
        await answers(client)
        yield address
        await client.aclose()


def bearer(key: IssuedKey) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {key.text}"}}


async def test_the_unmodified_client_drives_the_shipped_policy_and_each_frame_is_a_request_of_its_own(
    environment: dict[str, str], tmp_path: Path, server_folder: Path
) -> None:
    settings = settings_of(environment)
    key = await new_key(settings)
    png = io.BytesIO()
    Image.fromarray(FRAME).save(png, "PNG")
    rest = {"image": base64.b64encode(png.getvalue()).decode(), "instruction": "pick up red cube"}
    async with service(environment, tmp_path, server_folder) as address:
        async with openpi_client(address, key=key.text) as infer:
            assert (await infer({}))["model"] == "tabletop"
            frames = [await infer(OBSERVATION) for _ in range(3)]
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=30) as client:
            posted = await client.post("/v1/inference", json=rest, headers={"Authorization": f"Bearer {key.text}"})
            assert (await client.get("/healthz")).text == "OK\n"
    assert np.allclose(frames[0]["actions"], posted.json()["action"]["chunk"], atol=1e-5)
    assert frames[-1]["usage"]["requests_remaining_minute"] is not None
    async with Redis.from_url(str(settings.redis_url)) as redis:
        events = await events_in(redis)
        held = [name async for name in redis.scan_iter("vla:*") if await redis.type(name) == b"zset"]
        assert [await redis.zcard(name) for name in held] == [0] * len(held)
    assert [f"inf_{event.request_id.hex}" for event in events[:3]] == [frame["request_id"] for frame in frames]
    assert [event.status for event in events] == [UsageStatus.SUCCESS] * 4
    assert {event.key_id for event in events} == {key.id}


async def test_a_revoked_key_ends_an_open_socket_within_a_second(
    environment: dict[str, str], tmp_path: Path, server_folder: Path
) -> None:
    settings = settings_of(environment)
    key = await new_key(settings)
    async with service(environment, tmp_path, server_folder) as address, opened(address, **bearer(key)) as socket:
        await socket.send(packed())
        unpacked(await socket.recv())
        async with stores(settings) as there:
            await revoke_key(there, key.id)
        await asyncio.sleep(1)
        await socket.send(packed())
        assert '"revoked_key"' in str(await socket.recv())
        await socket.wait_closed()
        assert socket.close_code == 1008
        with pytest.raises(InvalidStatus) as refused:
            async with opened(address, **bearer(key)):
                pass
    assert refused.value.response.status_code == 401
