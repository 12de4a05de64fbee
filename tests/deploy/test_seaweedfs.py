"""The embedded object store: credentials on every way to an object, loopback only, and data that outlives a kill."""

import asyncio
import http.client
import os
import secrets
import socket
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.stack import free_block
from control_plane.objects import create_objects
from deploy.embedded import child
from deploy.embedded.seaweedfs import PORTS, Weed, seaweedfs
from deploy.embedded.server import Port, StartError, wait_until_ready
from tests.conftest import ENVIRONMENT, outside_loop, running


@pytest.fixture
def own(weed: Weed, server_folder: Path) -> Weed:
    """One that a test may kill."""
    first = Port(number=free_block(PORTS), setting="VLA_OBJECT_STORE_PORT")
    name = f"weed-{secrets.token_hex(3)}"
    return replace(weed, data=server_folder / name, sockets=server_folder / f"{name}-s", first=first)


def put(weed: Weed) -> None:
    """One object under a known name."""

    async def put() -> None:
        store = create_objects(weed.url)
        await store.put("kept/object", b"hello")
        await store.aclose()

    asyncio.run(put())


def get(weed: Weed) -> bytes:
    """That object."""

    async def get() -> bytes:
        store = create_objects(weed.url)
        try:
            return await store.get("kept/object")
        finally:
            await store.aclose()

    return asyncio.run(get())


def status(port: int, path: str) -> int:
    """What a caller without credentials is answered; 0 when nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_no_http_port_gives_an_object_without_credentials(weed: Weed) -> None:
    put(weed)
    assert get(weed) == b"hello"
    paths = ("/vlaapi/kept/object", "/buckets/vlaapi/kept/object", "/", "/buckets/?limit=9")
    http_ports = [port.number for flag, port in weed.ports.items() if not flag.endswith("grpc") and flag != "metricsPort"]
    answers = {(port, path): status(port, path) for port in http_ports for path in paths}
    master = weed.ports["master.port"].number  # its own page says which volumes there are, never what is in them
    assert {key: answer for key, answer in answers.items() if answer == 200 and key != (master, "/")} == {}


def test_everything_listens_on_loopback_only_and_inside_the_block(weed: Weed) -> None:
    (process,) = [p for p in psutil.process_iter(["cmdline"]) if f"-dir={weed.data}" in (p.info["cmdline"] or [])]
    listening = [line.laddr for line in process.net_connections("tcp") if line.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} <= {port.number for port in weed.ports.values()}
    assert weed.data.with_suffix(".json").stat().st_mode & 0o777 == 0o600
    assert weed.secret_key not in " ".join(process.cmdline())


def test_what_was_put_outlives_a_kill_and_another_port(own: Weed, tmp_path: Path) -> None:
    server = seaweedfs(own, environment=ENVIRONMENT)
    with running(server, log=tmp_path / "log"):
        put(own)
        (process,) = [p for p in psutil.process_iter(["cmdline"]) if f"-dir={own.data}" in (p.info["cmdline"] or [])]
        process.kill()
        process.wait(10)
    moved = replace(own, first=Port(number=free_block(PORTS), setting="VLA_OBJECT_STORE_PORT"))
    with running(seaweedfs(moved, environment=ENVIRONMENT), log=tmp_path / "log"):
        assert get(moved) == b"hello"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's socket")
def test_another_users_socket_in_its_way_is_named(own: Weed) -> None:
    path = Path(f"/tmp/seaweedfs-filer-grpc-{own.ports['filer.port.grpc'].number}.sock")  # noqa: S108
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        try:
            os.chown(path, 65534, 65534)
            with pytest.raises(StartError, match=r"belongs to another user; VLA_OBJECT_STORE_PORT moves it"):
                seaweedfs(own, environment=ENVIRONMENT).prepare()
        finally:
            path.unlink()


def test_its_stop_is_orderly(own: Weed, tmp_path: Path) -> None:
    server = seaweedfs(own, environment=ENVIRONMENT)
    server.prepare()
    process = child.spawn(server, log=tmp_path / "log")
    outside_loop(lambda: wait_until_ready(server, process.pid, is_alive=lambda: process.poll() is None))
    assert child.stop(server, process) == 0
