"""`vlaapi worker --only capture`, as it runs beside each API process on Kubernetes: real processes, a real store and database."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from control_plane.settings import load_settings
from control_plane.usage.segment import segments
from control_plane.worker import create_worker, limited_to
from tests.conftest import free_port
from tests.control_plane.capture.conftest import House
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import ROOT as REPOSITORY

_ARGV = (sys.executable, "-m", "control_plane.cli", "worker", "--only", "capture", "--only", "watch-disk")


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, objects_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "VLA_DATABASE_URL": database_url,
        "VLA_REDIS_URL": clean_redis_url,
        "VLA_OBJECT_STORE_URL": objects_url,
        "VLA_TRITON_URL": "127.0.0.1:1",
        "VLA_KEY_PEPPER": "p" * 32,
        "VLA_MODEL_REPOSITORY": str(tmp_path),
        "VLA_SPOOL_DIR": str(tmp_path),
        "VLA_CAPTURE_IDLE_S": "1",
        "VLA_WORKER_METRICS_PORT": str(free_port().number),
    }


@contextmanager
def shipper(environment: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """The process; what it says is its last word."""
    process = subprocess.Popen(_ARGV, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def measured(environment: Mapping[str, str]) -> str:
    """Its `/metrics`; empty while it starts."""
    line = HTTPConnection("127.0.0.1", int(environment["VLA_WORKER_METRICS_PORT"]), timeout=10)
    try:
        line.request("GET", "/metrics")
        return line.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        line.close()


async def test_it_ships_what_lies_there_and_what_is_sealed_at_the_end_and_does_nothing_else(
    house: House, environment: dict[str, str]
) -> None:
    house.write(house.sample(0))
    with shipper(environment) as process:

        async def is_shipped() -> bool:
            return not segments(house.folder) and bool(await house.manifests())

        await eventually(is_shipped, within_s=120)
        text = measured(environment)
        assert "vla_spool_disk_used_ratio 0." in text
        assert (
            "\nvla_worker_timestamp_seconds 0.0" in text
        )  # the worker's own look around is not done here: its alert would sleep
        process.send_signal(signal.SIGSTOP)
        house.write(house.sample(1))  # sealed by an API process that ends, just before the signal to end
        process.terminate()
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    assert segments(house.folder) == []
    assert await house.scalar("SELECT count(*) FROM captured_frames") == 2


async def test_without_an_object_store_there_is_nothing_to_ship_and_it_waits(environment: dict[str, str]) -> None:
    plain = {name: value for name, value in environment.items() if name not in {"VLA_OBJECT_STORE_URL", "PATH"}}
    limited = limited_to(("capture", "watch-disk"), create_worker(load_settings(plain)))
    assert set(limited.duties) == {"watch-disk", "metrics"}
    await limited.redis.aclose()


def test_a_duty_that_there_is_not_is_named(environment: dict[str, str]) -> None:
    argv = (*_ARGV, "--only", "captrue")
    done = subprocess.run(argv, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("vlaapi: --only: there is no duty captrue; there are ")
