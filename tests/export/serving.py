"""The embedded Triton over any model repository, for tests that publish a policy of their own."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded import child
from deploy.embedded.canary import expected_shapes
from deploy.embedded.server import Port, wait_until_ready
from deploy.embedded.triton import Triton, installation_in, triton

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


@contextmanager
def serving(repository: Path, venv: Path, scratch: Path) -> Iterator[str]:
    """Its gRPC address, once every policy has answered zeros in the right shape."""
    grpc, http, metrics = _free_ports()
    plan = Triton(
        installation=installation_in(venv),
        repository=repository,
        expected=expected_shapes(repository),
        scratch=scratch / "scratch",
        links=scratch / "links",
        grpc=grpc,
        http=http,
        metrics=metrics,
    )
    server = triton(plan, environment=_ENVIRONMENT)
    server.prepare()
    process = child.spawn(server, log=scratch / "triton.log")
    try:
        asyncio.run(wait_until_ready(server, process.pid, is_alive=lambda: process.poll() is None))
        yield plan.url
    finally:
        child.stop(server, process)


def _free_ports() -> list[Port]:
    sockets = [socket.socket() for _ in range(3)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [Port(number=one.getsockname()[1], setting="(picked by the test)") for one in sockets]
    finally:
        for one in sockets:
            one.close()
