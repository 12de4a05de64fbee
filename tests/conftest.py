"""The real servers that every room's tests use, started once per session from the definitions of `make up`.

database_url     an own, migrated PostgreSQL database for this test (a copy of a template: cheap)
postgres_url     one migrated database shared by the session, for tests that leave nothing behind or look only at their own rows
clean_redis_url  the session's Valkey (append-only file on), emptied before this test
redis_url        the same without emptying
objects_url      the session's object store (S3), a bucket of this test's own in it
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest
from minio import Minio
from redis import Redis

from benchmarks.stack import free_block
from control_plane.migrations import upgrade
from control_plane.object_place import place_of
from deploy.embedded import child
from deploy.embedded.binaries import program
from deploy.embedded.canary import expected_shapes
from deploy.embedded.monitoring import optional_program
from deploy.embedded.postgres import Cluster, postgres
from deploy.embedded.seaweedfs import PORTS as OBJECT_STORE_PORTS
from deploy.embedded.seaweedfs import Weed, seaweedfs
from deploy.embedded.server import Port, Server, wait_until_ready
from deploy.embedded.triton import Triton, installation_in, triton
from deploy.embedded.valkey import Store, valkey

_T = TypeVar("_T")

ROOT = Path(__file__).resolve().parent.parent
_TEMPLATE = "template_migrated"
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


def free_port() -> Port:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Port(number=probe.getsockname()[1], setting="(picked by the test)")


def outside(work: Callable[[], _T]) -> _T:
    """Runs `work` in a thread of its own, so that it may own an event loop whatever this thread's loop is doing."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def outside_loop(work: Callable[[], Coroutine[object, object, _T]]) -> _T:
    """The result of a coroutine, run in an event loop of its own."""
    return outside(lambda: asyncio.run(work()))


@contextmanager
def running(server: Server, *, log: Path) -> Iterator[None]:
    """The server, ready; stopped and reaped at the end."""
    server.prepare()
    process = child.spawn(server, log=log)
    try:
        outside_loop(lambda: wait_until_ready(server, process.pid, is_alive=lambda: process.poll() is None))
        yield
    finally:
        child.stop(server, process)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """State of the session's servers, in a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="vla-test-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster(server_folder: Path) -> Iterator[Cluster]:
    """The session's PostgreSQL with a migrated template database. Not durable across a power cut, only across kills."""
    cluster = Cluster(
        programs=program("postgres", override=None, setting="VLA_POSTGRES_BIN"),
        data=server_folder / "postgres",
        sockets=server_folder,
        port=free_port(),
        password=secrets.token_hex(16),
        is_durable=False,
    )
    with running(postgres(cluster, environment=ENVIRONMENT), log=server_folder / "postgres.log"):
        _execute(cluster, f"CREATE DATABASE {_TEMPLATE}")
        outside(lambda: upgrade(cluster.url(_TEMPLATE)))
        yield cluster


def _execute(cluster: Cluster, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(cluster.url())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    outside_loop(execute)


@contextmanager
def a_database(cluster: Cluster) -> Iterator[str]:
    """A migrated database, dropped at the end."""
    name = f"test_{secrets.token_hex(8)}"
    _execute(cluster, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield cluster.url(name)
    _drop(cluster, name)


def _drop(cluster: Cluster, name: str) -> None:
    """Drop a database that may still have guests. With FORCE, PostgreSQL refuses a role that is no superuser to end an autovacuum
    worker, which a drop without FORCE ends by itself; so that is tried between."""
    for _ in range(10):
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            _execute(cluster, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            return
        with contextlib.suppress(asyncpg.ObjectInUseError):
            _execute(cluster, f"DROP DATABASE IF EXISTS {name}")
    _execute(cluster, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_url(cluster: Cluster) -> Iterator[str]:
    """One migrated database for the whole session."""
    with a_database(cluster) as url:
        yield url


@pytest.fixture
def database_url(cluster: Cluster) -> Iterator[str]:
    """A migrated database of this test's own."""
    with a_database(cluster) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url(server_folder: Path) -> Iterator[str]:
    """The session's Valkey."""
    store = Store(
        program=program("valkey", override=None, setting="VLA_VALKEY_BIN"),
        data=server_folder / "valkey",
        port=free_port(),
        password=secrets.token_hex(16),
    )
    with running(valkey(store, environment=ENVIRONMENT), log=server_folder / "valkey.log"):
        yield store.url


@pytest.fixture
def clean_redis_url(redis_url: str) -> str:
    """The session's Valkey, emptied (keys and functions)."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
        client.function_flush()
    return redis_url


@pytest.fixture(scope="session")
def weed(server_folder: Path) -> Iterator[Weed]:
    """The session's SeaweedFS."""
    weed = Weed(
        program=program("seaweedfs", override=None, setting="VLA_SEAWEEDFS_BIN"),
        data=server_folder / "seaweedfs",
        sockets=server_folder,
        first=Port(number=free_block(OBJECT_STORE_PORTS), setting="(picked by the test)"),
        secret_key=secrets.token_hex(16),
    )
    with running(seaweedfs(weed, environment=ENVIRONMENT), log=server_folder / "seaweedfs.log"):
        yield weed


@pytest.fixture
def objects_url(weed: Weed) -> Iterator[str]:
    """A bucket of this test's own: it is made when the first object is put. It goes again: the store has room for some fifty."""
    url = f"{weed.url}-{secrets.token_hex(6)}"
    yield url
    place = place_of(url)
    client = Minio(
        place.endpoint,
        access_key=place.access_key,
        secret_key=place.secret_key,
        secure=place.is_secure,
        region=place.region,
    )
    if client.bucket_exists(place.bucket):
        for found in client.list_objects(place.bucket, recursive=True):
            client.remove_object(place.bucket, str(found.object_name))
        client.remove_bucket(place.bucket)


def monitoring_program(name: str) -> Path:
    """Prometheus, Alertmanager or one of their checking programs: no wheel has them, so `make test` fetches Debian's."""
    found = optional_program(name, override=None, setting="")
    assert found is not None, f"{name} is neither on PATH nor fetched: run `make monitoring`"
    return found


@pytest.fixture(scope="session")
def promtool() -> Path:
    """What checks and tests rules."""
    return monitoring_program("promtool")


@pytest.fixture(scope="session")
def amtool() -> Path:
    """What checks routes."""
    return monitoring_program("amtool")


@pytest.fixture(scope="session")
def triton_venv() -> Path:
    """The environment of the embedded Triton."""
    return Path(os.environ.get("VLA_TRITON_VENV", ROOT / ".venv-triton"))


@pytest.fixture(scope="session")
def triton_url(server_folder: Path, triton_venv: Path) -> Iterator[str]:
    """The session's Triton, every policy of `model_repository/` loaded and answering with the right shape."""
    repository = ROOT / "model_repository"
    plan = Triton(
        installation=installation_in(triton_venv),
        repository=repository,
        expected=expected_shapes(repository),
        scratch=server_folder / "triton",
        links=server_folder / "triton-links",
        grpc=free_port(),
        http=free_port(),
        metrics=free_port(),
    )
    with running(triton(plan, environment=ENVIRONMENT), log=server_folder / "triton.log"):
        yield plan.url
