"""The whole service as a person starts it: `vlaapi up --detach`, `status`, `down`, a second start, and a killed supervisor."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.stack import free_block, free_ports
from deploy.embedded.monitoring import PORTS as MONITORING_PORTS
from deploy.embedded.seaweedfs import PORTS as OBJECT_STORE_PORTS
from deploy.embedded.settings import ROOT
from deploy.embedded.state import open_state
from tests.conftest import free_port
from tests.control_plane.eventually import until
from tests.deploy import nothing_secret

_PORTS = ("PORT", "POSTGRES_PORT", "VALKEY_PORT", "TRITON_GRPC_PORT", "TRITON_HTTP_PORT", "TRITON_METRICS_PORT")
_UNAWAITED = {"seaweedfs", "prometheus", "alertmanager"}
_SERVERS = {"postgres", "valkey", "triton", "database", "worker", "api-1", "api-2", "nginx"} | _UNAWAITED


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Commands on a service with a state folder and ports of its own."""

    environment: dict[str, str]

    def vlaapi(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command."""
        argv = [sys.executable, "-m", "vlaapi", *words]
        return subprocess.run(argv, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)

    def status(self) -> dict[str, Any]:
        """What `vlaapi status --json` says."""
        found: dict[str, Any] = json.loads(self.vlaapi("status", "--json").stdout)
        return found

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything under it."""
        supervisor = psutil.Process(self.status()["supervisor_pid"])
        return [supervisor, *supervisor.children(recursive=True)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Not started yet; stopped at the end if it runs then."""
    ports = {f"VLA_{name}": str(port) for name, port in zip(_PORTS, free_ports(len(_PORTS)), strict=True)}
    ports["VLA_OBJECT_STORE_PORT"] = str(free_block(OBJECT_STORE_PORTS))
    ports["VLA_PROMETHEUS_PORT"] = str(free_block(MONITORING_PORTS))
    service = Service(environment={**os.environ, **ports, "VLA_STATE_DIR": str(tmp_path / "state of tests")})
    yield service
    service.vlaapi("down")


def _gone(processes: list[psutil.Process]) -> bool:
    _, left = psutil.wait_procs(processes, timeout=30)
    return not left


def test_it_starts_answers_is_refused_a_second_time_and_stops_without_orphans(service: Service) -> None:
    up = service.vlaapi("up", "--detach")
    assert up.returncode == 0, up.stderr
    status = service.status()
    assert status["state"] == "ready"
    assert set(status["servers"]) == _SERVERS
    awaited = {name: server["state"] for name, server in status["servers"].items() if name not in _UNAWAITED}
    assert set(awaited.values()) == {"ready", "done"}
    until(lambda: {service.status()["servers"][name]["state"] for name in _UNAWAITED} == {"ready"})  # nobody waits for them
    assert status["demo_key"].startswith("vla_live_")

    (curl,) = [line.partition("try it")[2].strip() for line in up.stdout.splitlines() if "try it" in line]
    assert status["url"] in curl
    if shutil.which("curl"):
        answer = json.loads(subprocess.run(shlex.split(curl), cwd=ROOT, capture_output=True, check=True).stdout)
        assert len(answer["action"]["chunk"]) >= 1

    for words in (("up",), ("up", "--detach")):
        second = service.vlaapi(*words)
        assert second.returncode == 1
        assert f"already running (pid {status['supervisor_pid']})" in second.stderr

    state = Path(service.environment["VLA_STATE_DIR"])
    secrets = nothing_secret.secrets_of(state)
    assert len(secrets) >= 5
    assert nothing_secret.in_command_lines(secrets) == []
    assert nothing_secret.open_to_others(state, open_state(state).sockets) == []

    processes = service.processes()
    down = service.vlaapi("down")
    assert down.returncode == 0, down.stderr
    stopped = [line.split()[0] for line in down.stdout.splitlines() if line.endswith(" stopped")]
    assert stopped[0] == "nginx"
    assert stopped[-7] == "worker"
    assert set(stopped[-6:]) == {"triton", "valkey", "postgres"} | _UNAWAITED  # together, when nobody needs them any more
    assert _gone(processes)
    assert nothing_secret.in_files(secrets, state / "logs") == []
    assert service.vlaapi("status").returncode == 3
    assert service.vlaapi("down").returncode == 0


def test_killing_the_supervisor_leaves_nothing_and_the_next_start_finds_everything(service: Service) -> None:
    assert service.vlaapi("up", "--detach").returncode == 0
    before = service.status()
    processes = service.processes()
    os.kill(before["supervisor_pid"], signal.SIGKILL)
    assert _gone(processes)
    assert service.vlaapi("status").returncode == 3

    again = service.vlaapi("up", "--detach")
    assert again.returncode == 0, again.stderr
    assert service.status()["demo_key"] == before["demo_key"]


def test_a_taken_port_and_a_misspelt_setting_refuse_the_start(service: Service) -> None:
    misspelt = Service(environment={**service.environment, "VLA_PROT": str(free_port().number)})
    refused = misspelt.vlaapi("up", "--detach")
    assert (refused.returncode, refused.stderr) == (1, "vlaapi: VLA_PROT: unknown setting\n")

    assert service.vlaapi("up", "--detach").returncode == 0
    elsewhere = Service(environment={**service.environment, "VLA_STATE_DIR": service.environment["VLA_STATE_DIR"] + " two"})
    taken = elsewhere.vlaapi("up", "--detach")
    assert taken.returncode == 1
    assert "VLA_PORT moves it" in taken.stderr
    assert "VLA_TRITON_GRPC_PORT moves it" in taken.stderr


def test_sockets_that_somebody_removed_come_back_and_processes_are_replaced_on_demand(service: Service) -> None:
    assert service.vlaapi("up", "--detach").returncode == 0
    status = service.status()
    sockets = open_state(Path(service.environment["VLA_STATE_DIR"])).sockets
    shutil.rmtree(sockets)
    os.kill(status["servers"]["triton"]["pid"], signal.SIGKILL)
    until(lambda: all(service.status()["servers"][name]["restarts"] == 1 for name in ("api-1", "api-2", "triton")))
    until(lambda: {server["state"] for server in service.status()["servers"].values()} == {"ready", "done"})
    assert sockets.stat().st_mode & 0o777 == 0o700
    with urllib.request.urlopen(f"{status['url']}/ready", timeout=10) as answer:  # noqa: S310 -- our own address
        assert answer.status == 200
    _replaced_on_demand(service, Path(service.environment["VLA_STATE_DIR"]))


def _replaced_on_demand(service: Service, state: Path) -> None:
    """One that hangs, one whose successor does not come up, and again when what was in the way is gone."""
    hanging = service.status()["servers"]["worker"]["pid"]
    os.kill(hanging, signal.SIGSTOP)
    done = service.vlaapi("restart", "worker")
    assert (done.returncode, done.stdout) == (
        0,
        f"worker is replaced (worker: pid {hanging} did not end within 5 s of SIGTERM, and was killed)\n",
    )
    assert not psutil.pid_exists(hanging)

    (state / "metrics").rename(state / "metrics aside")
    refused = service.vlaapi("restart", "worker")
    assert refused.returncode == 1
    assert re.fullmatch(r"vlaapi: worker: .*again in .*\n", refused.stderr)
    (state / "metrics aside").rename(state / "metrics")
    until(lambda: service.status()["servers"]["worker"]["state"] == "ready")
    for what, told in (("worker", "worker is replaced\n"), ("api", "api-1 is replaced\napi-2 is replaced\n")):
        done = service.vlaapi("restart", what)
        assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
