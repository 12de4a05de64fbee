"""A Triton of our own for one bundle, on ports that nobody uses, gone afterwards: the embedded one, as `make up` starts it.

It serves what the embedded Triton can: the Python backend on a CPU. For anything else start a Triton and name it with `--triton`.
"""

import asyncio
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded import child
from deploy.embedded.canary import expected_shapes
from deploy.embedded.server import Port, Server, StartError, wait_until_ready
from deploy.embedded.triton import Triton, installation_in, triton
from export.benchmark.failure import NotHere

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
_LOG = "triton.log"
_ADVICE = "or name a running Triton with --triton HOST:PORT"


@contextmanager
def own_triton(bundle: Path, venv: Path) -> Iterator[str]:
    """Its gRPC address, once the policy has answered. Raises NotHere saying what is missing."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as name:
        folder = Path(name)
        repository = folder / "repository"
        repository.mkdir()
        (repository / bundle.name).symlink_to(bundle.absolute())
        try:
            with serving(repository, venv, folder) as address:
                yield address
        except StartError as error:
            reason = _complaint(folder / _LOG)
            raise NotHere(f"{error if reason is None else f'Triton did not start: {reason}'}; {_ADVICE}") from None


@contextmanager
def serving(repository: Path, venv: Path, folder: Path) -> Iterator[str]:
    """The gRPC address of a Triton over any model repository, once every policy has answered. Raises StartError.

    `venv` is the environment that holds Triton; `folder` is for what it writes.
    """
    grpc, http, metrics = _free_ports()
    plan = Triton(
        installation=installation_in(venv.absolute()),  # Triton runs in a folder of its own
        repository=repository,
        expected=expected_shapes(repository),
        scratch=folder / "scratch",
        links=folder / "links",
        grpc=grpc,
        http=http,
        metrics=metrics,
    )
    with _running(triton(plan, environment=_ENVIRONMENT), folder / _LOG):
        yield plan.url


@contextmanager
def _running(server: Server, log: Path) -> Iterator[None]:
    server.prepare()
    process = child.spawn(server, log=log)
    try:
        asyncio.run(wait_until_ready(server, process.pid, is_alive=lambda: process.poll() is None))
        yield
    finally:
        child.stop(server, process)


def _free_ports() -> list[Port]:
    sockets = [socket.socket() for _ in range(3)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [Port(number=one.getsockname()[1], setting="--triton") for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _complaint(log: Path) -> str | None:
    """Why Triton would not start, in its own words: the first model that failed, or its last line."""
    text = log.read_text(errors="replace") if log.exists() else ""
    reason = re.search(r"failed to load '.*?' version \d+: (.*)", text) or re.search(r"^error: (.*)", text, re.M)
    return None if reason is None else reason[1].strip(' ."')[:300]
