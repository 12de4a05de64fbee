"""API processes are replaced one by one under load, behind the real nginx: no request fails and none waits for a process."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from billing.tiers import Tier
from control_plane.customers.verbs import set_limits
from control_plane.drain import DRAIN_SIGNAL
from control_plane.keys.verbs import IssuedKey, list_keys
from control_plane.settings import load_settings
from deploy.embedded.api import api, api_socket
from deploy.embedded.binaries import program
from deploy.embedded.nginx import Door, nginx
from deploy.embedded.settings import ROOT
from deploy.embedded.state import State, close_state, open_state
from deploy.embedded.status import ServerState
from deploy.embedded.supervisor import Supervisor
from tests.conftest import ENVIRONMENT, free_port
from tests.control_plane.whole_app import new_key, post, stores, variables

NUMBERS = (1, 2)


@pytest.fixture
def environment(postgres_url: str, clean_redis_url: str, triton_url: str, tmp_path: Path) -> dict[str, str]:
    """The API processes' settings, over the session's servers."""
    return variables(database_url=postgres_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path / "spool")


@asynccontextmanager
async def service(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[tuple[Supervisor, str, State]]:
    """Two API processes and nginx, as `make up` defines them."""
    state = open_state(tmp_path / "state")
    plain = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    processes = tuple(
        api(number, state=state, environment={**plain, **environment}, depends_on=(), max_message_bytes=10_000_000)
        for number in NUMBERS
    )
    door = Door(
        program=program("nginx", override=None, setting="VLA_NGINX_BIN"),
        folder=state.root / "nginx",
        access_log=state.log("access"),
        port=free_port(),
        upstreams=tuple(api_socket(state, number) for number in NUMBERS),
        max_body_bytes=10_000_000,
        body_timeout_s=10.0,
        key_per_s=1000,
        address_per_s=1000,
        errors_url="http://127.0.0.1/errors",
        upstream_idle_s=1,
    )
    ranks = (processes, (nginx(door, environment=ENVIRONMENT),))
    supervisor = Supervisor(ranks, log_of=state.log, changed=lambda: None)
    try:
        await supervisor.start()
        yield supervisor, f"127.0.0.1:{door.port.number}", state
    finally:
        await supervisor.stop()
        close_state(state)


async def generous_key(environment: dict[str, str]) -> IssuedKey:
    """A key whose limits this load does not reach."""
    settings = load_settings(environment)
    key = await new_key(settings, tier=Tier.ENTERPRISE)
    async with stores(settings) as there:
        owner = next(one.customer_id for one in await list_keys(there.engine) if one.id == key.id)
        await set_limits(there, owner, {"per_minute": 1_000_000, "per_day": 1_000_000, "concurrency": 100})
    return key


async def test_every_request_is_answered_while_every_process_is_replaced(environment: dict[str, str], tmp_path: Path) -> None:
    key = await generous_key(environment)
    answers: Counter[int | str] = Counter()
    stop = asyncio.Event()

    async def call(client: httpx.AsyncClient, pause_s: float) -> None:
        while not stop.is_set():
            try:
                answers[(await post(client, key)).status_code] += 1
            except httpx.TransportError as error:
                answers[type(error).__name__] += 1
            await asyncio.sleep(pause_s)

    async def caller(url: str, pause_s: float) -> None:
        """One robot on one line that it keeps open."""
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await call(client, pause_s)

    async with service(environment, tmp_path) as (supervisor, address, _):
        before = {name: one.pid for name, one in supervisor.servers.items()}
        pauses = (0.0, 0.05, 0.05, 0.2, 0.9, 1.1)  # also as long as nginx keeps a line open that nobody uses
        callers = [asyncio.create_task(caller(f"http://{address}", pause_s)) for pause_s in pauses]
        for number in NUMBERS:
            await supervisor.replace(f"api-{number}")
        stop.set()
        await asyncio.gather(*callers)
        after = supervisor.servers
    assert set(answers) == {200}
    assert answers[200] > 20
    assert all(after[f"api-{number}"].pid != before[f"api-{number}"] for number in NUMBERS)
    assert all(one.restarts == 0 and one.state is ServerState.READY for one in after.values())
    assert after["nginx"].pid == before["nginx"]


async def test_a_robot_on_a_socket_is_sent_to_another_process_between_two_frames(
    environment: dict[str, str], tmp_path: Path
) -> None:
    key = await generous_key(environment)
    headers = {"Authorization": f"Bearer {key.text}"}
    async with service(environment, tmp_path) as (supervisor, address, _):
        lines = [await connect(f"ws://{address}/v1/stream", additional_headers=headers) for _ in range(4)]
        for line in lines:
            assert await line.recv()  # the first message: what is served
        for number in NUMBERS:
            await supervisor.replace(f"api-{number}")
        codes = Counter[int]()
        for line in lines:
            with pytest.raises(ConnectionClosed) as closed:
                await line.recv()
            codes[closed.value.rcvd.code if closed.value.rcvd else 0] += 1
    assert codes == {1012: 4}


async def test_a_process_that_is_on_its_way_out_says_so(environment: dict[str, str], tmp_path: Path) -> None:
    """What a load balancer of another kind goes by: not ready, and every answer ends its connection."""
    key = await generous_key(environment)
    async with service(environment, tmp_path) as (supervisor, _, state):
        pid = supervisor.servers["api-1"].pid
        assert pid is not None
        transport = httpx.AsyncHTTPTransport(uds=str(api_socket(state, 1)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            assert "connection" not in (await client.get("/ready")).headers
            os.kill(pid, DRAIN_SIGNAL)
            for _ in range(100):
                ready = await client.get("/ready")
                if ready.status_code == 503:
                    break
                await asyncio.sleep(0.05)
            assert (ready.status_code, ready.json()["status"], ready.headers["connection"]) == (503, "draining", "close")
            answer = await post(client, key)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
