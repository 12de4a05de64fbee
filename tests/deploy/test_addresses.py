"""Allow lists through the real nginx in front of a real API process: what a caller says of its address counts for nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from control_plane.keys.verbs import NewKey
from deploy.embedded.binaries import program
from deploy.embedded.nginx import Door, nginx, system_nginx
from tests.conftest import ENVIRONMENT, free_port, outside_loop, running
from tests.control_plane.keys.test_keys_in_service import fault
from tests.control_plane.whole_app import another_key, answers, new_key, process, settings_of, variables

_LOOPBACK, _ELSEWHERE = "127.0.0.1/32", "203.0.113.0/24"
_SPOOFS = [
    {"X-Forwarded-For": "203.0.113.9"},
    {"X-Real-IP": "203.0.113.9"},
    {"Forwarded": "for=203.0.113.9", "X-Client-IP": "203.0.113.9", "True-Client-IP": "203.0.113.9"},
    {"X-Forwarded-For": "203.0.113.9, 203.0.113.10", "X-Real-IP": "203.0.113.9"},
]
Open = Callable[..., httpx.Client]


@pytest.fixture
def service(postgres_url: str, clean_redis_url: str, tmp_path: Path, server_folder: Path) -> Iterator[dict[str, str]]:
    """An API process on a unix socket: what it asks Triton does not matter here."""
    environment = variables(database_url=postgres_url, redis_url=clean_redis_url, triton_url="127.0.0.1:1", spool=tmp_path)
    with process(environment, socket=server_folder / "api-of-addresses", log=tmp_path / "api.log") as client:
        outside_loop(lambda: _ready(client))
        yield environment


async def _ready(client: httpx.AsyncClient) -> None:
    async with client:
        await answers(client)


@contextmanager
def door(folder: Path, socket: Path, trusted_proxies: tuple[str, ...] = ()) -> Iterator[httpx.Client]:
    """nginx as `make up` runs it, and a client of it."""
    folder.mkdir()
    plan = Door(
        program=program("nginx", override=system_nginx(), setting="VLA_NGINX_BIN"),
        folder=folder / "nginx",
        access_log=folder / "access.log",
        port=free_port(),
        upstreams=(socket,),
        max_body_bytes=10_000,
        body_timeout_s=10,
        key_per_s=1000,
        address_per_s=1000,
        errors_url="http://127.0.0.1/errors",
        trusted_proxies=trusted_proxies,
    )
    with (
        running(nginx(plan, environment=ENVIRONMENT), log=folder / "nginx.log"),
        httpx.Client(base_url=f"http://127.0.0.1:{plan.port.number}", timeout=30) as client,
    ):
        yield client


async def key_from(environment: dict[str, str], network: str) -> dict[str, str]:
    """The header of a key that may be used from there only."""
    settings = settings_of(environment)
    key = await another_key(settings, await new_key(settings), NewKey(allowed_ips=[network]))
    return {"Authorization": f"Bearer {key.text}"}


def test_the_address_is_the_one_that_nginx_saw(service: dict[str, str], tmp_path: Path, server_folder: Path) -> None:
    near = outside_loop(lambda: key_from(service, _LOOPBACK))
    far = outside_loop(lambda: key_from(service, _ELSEWHERE))
    with door(tmp_path / "plain", server_folder / "api-of-addresses") as client:
        assert client.get("/v1/robots", headers=near).status_code == 200
        for spoof in ({}, *_SPOOFS):
            assert fault(client.get("/v1/robots", headers=far | spoof)) == (403, "address_not_allowed", None)
            assert client.get("/v1/robots", headers=near | spoof).status_code == 200


def test_behind_a_trusted_load_balancer_the_address_is_the_one_that_it_saw(
    service: dict[str, str], tmp_path: Path, server_folder: Path
) -> None:
    near = outside_loop(lambda: key_from(service, _LOOPBACK))
    far = outside_loop(lambda: key_from(service, _ELSEWHERE))
    with door(tmp_path / "behind", server_folder / "api-of-addresses", trusted_proxies=("127.0.0.1",)) as client:
        balanced = {"X-Forwarded-For": "203.0.113.9"}  # as a load balancer on this machine would say
        assert client.get("/v1/robots", headers=far | balanced).status_code == 200
        assert client.get("/v1/robots", headers=near | balanced).status_code == 403
        for written_by_caller in ("203.0.113.9, 198.51.100.7", "203.0.113.9, 127.0.0.1, 198.51.100.7"):
            headers = far | {"X-Forwarded-For": written_by_caller}
            assert fault(client.get("/v1/robots", headers=headers)) == (403, "address_not_allowed", None)
    assert '"address":"203.0.113.9"' in (tmp_path / "behind" / "access.log").read_text()
