"""Servers that one test may kill, hang and start again: the definitions of `make up`, apart from the session's own servers.

Imported by the rooms' conftest files, which turn them into fixtures.
"""

import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.embedded import child
from deploy.embedded.binaries import program
from deploy.embedded.canary import expected_shapes
from deploy.embedded.postgres import Archive, Cluster, postgres
from deploy.embedded.server import Server, wait_until_ready
from deploy.embedded.triton import Triton, installation_in, triton
from deploy.embedded.valkey import Store, valkey
from tests.conftest import ROOT, free_port

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


class OwnServer:
    """A server under the test's control. `url` stays the same over restarts."""

    def __init__(self, server: Server, *, url: str) -> None:
        self.url = url
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Starts it and waits until it answers."""
        self._server.prepare()
        process = child.spawn(self._server, log=self._server.folder / f"{self._server.name}.log")
        self._process = process
        await wait_until_ready(self._server, process.pid, is_alive=lambda: process.poll() is None)

    def kill(self) -> None:
        """As the kernel's out-of-memory killer would."""
        child.bury(self._server, self._running)

    def suspend(self) -> None:
        """It stays connected and answers nothing."""
        os.killpg(self._running.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it stood."""
        os.killpg(self._running.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Ends it, in whatever state the test left it."""
        if self._process is not None:
            self.kill()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


@asynccontextmanager
async def own_valkey() -> AsyncIterator[OwnServer]:
    """A running Valkey."""
    with tempfile.TemporaryDirectory(prefix="vla-own-", dir="/tmp") as folder:
        store = Store(
            program=program("valkey", override=None, setting="VLA_VALKEY_BIN"),
            data=Path(folder) / "valkey",
            port=free_port(),
            password=secrets.token_hex(16),
        )
        async with _started(OwnServer(valkey(store, environment=_ENVIRONMENT), url=store.url)) as server:
            yield server


@asynccontextmanager
async def own_postgres(archive: Archive | None = None) -> AsyncIterator[OwnServer]:
    """A running PostgreSQL without tables."""
    with tempfile.TemporaryDirectory(prefix="vla-own-", dir="/tmp") as folder:
        cluster = Cluster(
            programs=program("postgres", override=None, setting="VLA_POSTGRES_BIN"),
            data=Path(folder) / "postgres",
            sockets=Path(folder),
            port=free_port(),
            password=secrets.token_hex(16),
            is_durable=False,
            archive=archive,
        )
        async with _started(OwnServer(postgres(cluster, environment=_ENVIRONMENT), url=cluster.url())) as server:
            yield server


@asynccontextmanager
async def own_triton(venv: Path, repository: Path = ROOT / "model_repository") -> AsyncIterator[OwnServer]:
    """A running Triton that serves `repository`."""
    with tempfile.TemporaryDirectory(prefix="vla-own-", dir="/tmp") as folder:
        plan = Triton(
            installation=installation_in(venv),
            repository=repository,
            expected=expected_shapes(repository),
            scratch=Path(folder) / "triton",
            links=Path(folder) / "links",
            grpc=free_port(),
            http=free_port(),
            metrics=free_port(),
        )
        async with _started(OwnServer(triton(plan, environment=_ENVIRONMENT), url=plan.url)) as server:
            yield server


@asynccontextmanager
async def _started(server: OwnServer) -> AsyncIterator[OwnServer]:
    try:
        await server.start()
        yield server
    finally:
        server.stop()
