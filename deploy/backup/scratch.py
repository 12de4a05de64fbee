"""A PostgreSQL that lives for one proof: own folder, own port, gone afterwards. The programs are those of `make up`."""

import secrets
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.embedded import child
from deploy.embedded.binaries import program
from deploy.embedded.postgres import Cluster, postgres
from deploy.embedded.server import Port, wait_until_ready

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


@asynccontextmanager
async def scratch_server(programs: Path | None) -> AsyncIterator[str]:
    """The address of an empty database. Raises StartError when there are no programs to start one with."""
    with tempfile.TemporaryDirectory(prefix="vla-scratch-", dir="/tmp") as folder:
        cluster = Cluster(
            programs=program("postgres", override=programs, setting="VLA_POSTGRES_BIN"),
            data=Path(folder) / "postgres",
            sockets=Path(folder),
            port=_free_port(),
            password=secrets.token_hex(16),
            is_durable=False,  # what is lost with it can be made again
        )
        server = postgres(cluster, environment=_ENVIRONMENT)
        server.prepare()
        process = child.spawn(server, log=Path(folder) / "postgres.log")
        try:
            await wait_until_ready(server, process.pid, is_alive=lambda: process.poll() is None)
            yield cluster.url()
        finally:
            child.stop(server, process)


def _free_port() -> Port:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Port(number=probe.getsockname()[1], setting="(picked)")
