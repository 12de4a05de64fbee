"""Dockerfiles and scripts: linters find nothing, images hold what they import and no more, stores take their settings."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from minio import Minio
from redis import Redis
from redis.exceptions import AuthenticationError

from benchmarks.stack import free_block
from deploy.embedded.binaries import program
from deploy.embedded.settings import ROOT
from deploy.embedded.triton import CLOSED
from tests.conftest import ENVIRONMENT, free_port, running
from tests.deploy import compose_file
from tests.deploy.production_door import server_on

_DOCKER = ROOT / "deploy/docker"
DOCKERFILES = sorted(_DOCKER.glob("*.Dockerfile"))
SCRIPTS = sorted([*(ROOT / "deploy").rglob("*.sh"), ROOT / "scripts/vlaapi", ROOT / "scripts/run_tests.sh", ROOT / ".ci/run"])
_COPY = re.compile(r"^COPY (?:--chmod=\d+ )?(?!--from)(.+) (\S+)$", re.M)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    found = subprocess.run(
        [compose_file.scripts("hadolint"), "--no-color", str(path)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    found = subprocess.run([compose_file.scripts("shellcheck"), str(path)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_reproducible_and_nobody_s_root(path: Path) -> None:
    text = path.read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.M))
    for base in bases:
        assert base in stages or re.fullmatch(r"\$\{[A-Z]+_IMAGE\}", base), base
    for line in text.replace("\\\n", " ").splitlines():
        if " pip " in line and " install" in line and "torch.txt" not in line:
            for install in line.split("&&"):
                assert "--require-hashes" in install or " install" not in install, install
    assert re.findall(r"^USER (\S+)$", text, re.M)[-1] not in {"0", "0:0", "root"}
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|SECRET|PEPPER)", text, re.M)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_an_image_copies_is_there_and_let_through(path: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources, _ in _COPY.findall(path.read_text()):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(rule) or source.startswith(f"{rule}/") or source == rule for rule in allowed), source


def test_nothing_secret_gets_into_an_image() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in rules if line and not line.startswith("#")) == "*"  # what is not named stays outside
    for name in (".env", "site", ".vlaapi", ".git", "tests"):
        assert not any(rule.strip("!").partition("/")[0] == name for rule in rules)


def test_the_image_of_the_control_plane_holds_everything_that_it_imports(tmp_path: Path) -> None:
    """Exactly what the Dockerfile copies, in a folder of its own, asked to load all that its containers run."""
    for sources, target in _COPY.findall((_DOCKER / "api.Dockerfile").read_text()):
        if target.startswith("/opt/vlaapi/"):
            place = tmp_path / target.removeprefix("/opt/vlaapi/")
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / sources).is_dir() else shutil.copy
            copy(ROOT / sources, place)
    late = "control_plane.usage.archive.retention, control_plane.datasets.build"  # what is loaded only where it is used
    loaded = f"control_plane.app, control_plane.worker, control_plane.cli, vlaapi.__main__, {late}"
    code = f"import {loaded}; assert control_plane.__file__.startswith({str(tmp_path)!r})"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    tried = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert tried.returncode == 0, tried.stderr
    revisions = list((tmp_path / "control_plane/migrations/versions").glob("*.py"))
    assert len(revisions) == len(list((ROOT / "control_plane/migrations/versions").glob("*.py")))


def test_triton_is_closed_in_the_same_way_everywhere() -> None:
    script = (_DOCKER / "triton.sh").read_text()
    assert f'closed="{",".join(CLOSED)}"' in script
    for flag in ("--grpc-restricted-protocol=", "--http-restricted-api=", "--model-control-mode=none", "--strict-readiness=true"):
        assert flag in script


def test_valkey_takes_its_settings_and_keeps_its_password_to_itself(tmp_path: Path) -> None:
    """The container's own script and file, with a real server; only folders and port are others."""
    port, password = free_port().number, "a-password-of-this-test"
    conf = tmp_path / "valkey.conf"
    text = (_DOCKER / "valkey.conf").read_text()
    for before, after in {
        "bind * -::*": "bind 127.0.0.1",
        "6379": str(port),
        "/data": str(tmp_path),
        "/run/valkey": str(tmp_path),
    }.items():
        assert before in text
        text = text.replace(before, after)
    conf.write_text(text)
    server = server_on("valkey", (str(_DOCKER / "valkey.sh"), str(conf)), port, tmp_path)
    valkey = str(program("valkey", override=None, setting="VLA_VALKEY_BIN"))
    environment = {**ENVIRONMENT, "REDIS_PASSWORD": password, "RUN_DIR": str(tmp_path), "VALKEY_SERVER": valkey}
    with running(replace(server, environment=environment), log=tmp_path / "valkey.log"):
        with Redis(port=port, password=password) as client:
            assert client.ping()
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
        with Redis(port=port) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        assert not _is_in_an_argv(password)
    assert (tmp_path / "password.conf").stat().st_mode & 0o077 == 0


def test_seaweedfs_takes_its_command_and_asks_for_credentials(tmp_path: Path) -> None:
    """The command of compose, with a real `weed`; folders and ports are others."""
    service = compose_file.as_read()["services"]["seaweedfs"]
    first = free_block(12)
    ports = {
        "-s3.port=8333": f"-s3.port={first}",
        "-metricsPort=9327": f"-metricsPort={first + 1}",
        "-dir=/data": f"-dir={tmp_path}",
    }
    ports |= {
        "-ip=seaweedfs": "-ip=127.0.0.1",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
        "-metricsIp=0.0.0.0": "-metricsIp=127.0.0.1",
    }
    inner = (
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port.grpc",
    )
    words = [ports.get(word, word) for word in service["command"]]
    words += [f"-{flag}={first + 2 + number}" for number, flag in enumerate((*inner, "admin.port", "admin.port.grpc"))]
    words += [f"-{name}.localSocket={tmp_path / name}.sock" for name in ("s3", "filer")]
    weed = str(program("seaweedfs", override=None, setting="VLA_SEAWEEDFS_BIN"))
    server = server_on("seaweedfs", (weed, *words), first, tmp_path)
    keys = {name: service["environment"][name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    with running(replace(server, environment={**ENVIRONMENT, **keys, "HOME": str(tmp_path)}), log=tmp_path / "weed.log"):
        owner = Minio(f"127.0.0.1:{first}", keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], secure=False)
        owner.make_bucket("vlaapi")
        assert owner.bucket_exists("vlaapi")
        stranger = Minio(f"127.0.0.1:{first}", "somebody", "else", secure=False)
        with pytest.raises(Exception, match=r"InvalidAccessKeyId|AccessDenied|SignatureDoesNotMatch"):
            stranger.list_buckets()
        assert not _is_in_an_argv(keys["AWS_SECRET_ACCESS_KEY"])


def _is_in_an_argv(secret: str) -> bool:
    return any(secret.encode() in _argv(path) for path in Path("/proc").glob("[0-9]*/cmdline"))


def _argv(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended
        return b""
