"""A whole service of its own for a benchmark or a kill test: own state folder, own ports, a customer without limits in the way.

Started and stopped through the same commands a person types. Knows nothing of what is measured.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.embedded.monitoring import PORTS as MONITORING_PORTS
from deploy.embedded.seaweedfs import PORTS as OBJECT_STORE_PORTS

ROOT = Path(__file__).resolve().parents[1]
_PORTS = (
    "VLA_PORT",
    "VLA_POSTGRES_PORT",
    "VLA_VALKEY_PORT",
    "VLA_TRITON_GRPC_PORT",
    "VLA_TRITON_HTTP_PORT",
    "VLA_TRITON_METRICS_PORT",
)
_UNLIMITED = "1000000"
_KEEPS_CHILDREN = {"triton", "nginx"}  # PostgreSQL's come and go


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running service. `environment` makes `vlaapi …` speak to it."""

    environment: dict[str, str]
    host: str
    port: int
    triton: str
    key: str

    @property
    def model_repository(self) -> Path:
        """The bundles it serves."""
        return ROOT / "model_repository"

    @property
    def example(self) -> Path:
        """A picture of the policy's own camera."""
        return ROOT / "examples" / "tabletop.png"

    @property
    def state_dir(self) -> Path:
        """Its state folder."""
        return Path(self.environment["VLA_STATE_DIR"])

    @property
    def pids(self) -> dict[str, list[int]]:
        """Process ids by kind of server: `api` holds every API process, `triton` and `nginx` the processes that do their work."""
        kinds: dict[str, list[int]] = {}
        for name, server in self.status()["servers"].items():
            if server["pid"]:
                kind = name.partition("-")[0]
                children = psutil.Process(server["pid"]).children(recursive=True) if kind in _KEEPS_CHILDREN else ()
                kinds.setdefault(kind, []).extend([server["pid"], *(child.pid for child in children)])
        return kinds

    def status(self) -> dict[str, Any]:
        """What `vlaapi status --json` says."""
        found: dict[str, Any] = json.loads(vlaapi("status", "--json", environment=self.environment))
        return found


@contextlib.contextmanager
def running_stack(state_dir: Path, **settings: str) -> Iterator[Stack]:
    """Starts a service in `state_dir` and stops it at the end. `settings` are further VLA_* names."""
    environment = {
        **os.environ,
        "VLA_STATE_DIR": str(state_dir),
        "VLA_DOOR_KEY_PER_S": _UNLIMITED,
        "VLA_DOOR_ADDRESS_PER_S": _UNLIMITED,
        **dict(zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True)),
        "VLA_OBJECT_STORE_PORT": str(free_block(OBJECT_STORE_PORTS)),
        "VLA_PROMETHEUS_PORT": str(free_block(MONITORING_PORTS)),
        **settings,
    }
    try:
        vlaapi("up", "--detach", environment=environment)
        yield Stack(
            environment=environment,
            host="127.0.0.1",
            port=int(environment["VLA_PORT"]),
            triton=f"127.0.0.1:{environment['VLA_TRITON_GRPC_PORT']}",
            key=new_customer(environment),
        )
    finally:
        vlaapi("down", environment=environment)


def vlaapi(*words: str, environment: dict[str, str]) -> str:
    """Runs a `vlaapi` command and returns what it printed. Raises CalledProcessError with its complaint on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "vlaapi", *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def free_block(count: int) -> int:
    """The first of `count` ports in a row that nothing listens on now, below those that the kernel hands out by itself."""
    for first in random.sample(range(12_000, 32_000, count), 500):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for number in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            return first
    raise RuntimeError(f"there are no {count} free ports in a row")


def new_customer(environment: dict[str, str], *, email: str = "load@example.com") -> str:
    """The key of a new customer whom no limit stops."""
    created = json.loads(
        vlaapi(
            *(
                "customers",
                "create",
                "--json",
                "--company-name",
                "Load Test",
                "--email",
                email,
                "--tier",
                "enterprise",
            ),
            *("--per-minute", _UNLIMITED, "--per-day", "100000000", "--concurrency", "10000"),
            environment=environment,
        )
    )
    key: str = created["api_key"]
    return key
