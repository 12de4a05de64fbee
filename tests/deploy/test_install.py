"""deploy/install.sh, run for real in a folder of its own, as this user and (if this user is root) as an ordinary one."""

import os
import re
import shutil
import ssl
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.embedded.binaries import program
from deploy.embedded.settings import ROOT
from tests.deploy import compose_file
from tests.deploy.production_door import make_certificate

_SOMEBODY = 65534
_URL = "https://api.example.com"
_SECRET = re.compile("^([A-Z_]*(?:PASSWORD|PEPPER|SECRET|ACCESS|BACKUP_KEY)[A-Z_]*)=(.*)$", re.M)


@pytest.fixture(params=["as this user", "as an ordinary user"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> "Place":
    """An unpacked release that nobody has installed yet."""
    root = tmp_path / "opt" / "vlaapi"
    root.mkdir(parents=True)
    shutil.copytree(ROOT / "deploy", root / "deploy", ignore=shutil.ignore_patterns("__pycache__", "embedded", "nginx"))
    (root / "deploy/nginx").mkdir()
    shutil.copy(ROOT / "deploy/nginx/nginx.conf", root / "deploy/nginx/nginx.conf")
    shutil.copy(ROOT / "docker-compose.yml", root)
    is_other = request.param == "as an ordinary user"
    if is_other and os.geteuid() != 0:
        pytest.skip("this user is one: the other run of this test is it")
    if is_other:
        for path in (root, *root.rglob("*")):
            os.chown(path, _SOMEBODY, _SOMEBODY)
        for parent in (tmp_path, *tmp_path.parents[:2]):
            parent.chmod(0o755)
    return Place(root, user=_SOMEBODY if is_other else None)


class Place:
    """One installation."""

    def __init__(self, root: Path, *, user: int | None) -> None:
        self.root, self.user = root, user

    def install(self, *words: str) -> subprocess.CompletedProcess[str]:
        """install.sh, without a container engine."""
        return subprocess.run(
            [str(self.root / "deploy/install.sh"), "--prepare-only", *words],
            capture_output=True,
            text=True,
            check=False,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.root)},
        )

    def files(self) -> dict[str, tuple[Any, ...]]:
        """Everything that is there: rights, owner, when it was written, what is in it."""
        return {
            str(path.relative_to(self.root)): (
                *(path.stat().st_mode, path.stat().st_uid, path.stat().st_ino, path.stat().st_mtime_ns),
                path.read_bytes() if path.is_file() else None,
            )
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }

    @property
    def secrets(self) -> dict[str, str]:
        """What is to be kept from others, by name."""
        return dict(_SECRET.findall((self.root / ".env").read_text()))


def test_it_prepares_everything_that_compose_asks_for(place: Place) -> None:
    done = place.install("--public-url", _URL, "--alert-webhook", "https://pager.example.com/x")
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((place.root / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((place.root / "site").stat().st_mode) == 0o700
    argv = [compose_file.scripts("docker-compose"), "--project-directory", str(place.root), "--profile", "export", "config", "-q"]
    read = subprocess.run(argv, cwd=place.root, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert read.returncode == 0, read.stderr
    for name in ("site/nginx/site.conf", "site/tls/fullchain.pem", "site/tls/privkey.pem", "site/acme", "build/site"):
        assert (place.root / name).exists()
    assert (place.root / "site/alertmanager/webhook_url").read_text() == "https://pager.example.com/x"


def test_prometheus_asks_as_many_replicas_as_there_are_and_gpus_where_there_are_some(place: Place) -> None:
    targets, env = place.root / "site/prometheus", place.root / ".env"
    assert place.install("--public-url", _URL).returncode == 0
    assert yaml.safe_load((targets / "api.yml").read_text()) == [{"targets": [f"vlaapi-api-{n}:8000" for n in (1, 2, 3)]}]
    text = re.sub("COMPOSE_PROFILES=.*", "COMPOSE_PROFILES=gpu", env.read_text())
    env.write_text(text.replace("VLA_API_REPLICAS=3", "VLA_API_REPLICAS=5"))
    assert place.install().returncode == 0
    assert yaml.safe_load((targets / "api.yml").read_text())[0]["targets"][-1] == "vlaapi-api-5:8000"
    assert yaml.safe_load((targets / "gpu.yml").read_text()) == [{"targets": ["dcgm-exporter:9400"]}]
    env.write_text(env.read_text().replace("COMPOSE_PROFILES=gpu", "COMPOSE_PROFILES=cpu"))
    assert place.install().returncode == 0
    assert yaml.safe_load((targets / "gpu.yml").read_text()) == []
    env.write_text(env.read_text().replace("VLA_API_REPLICAS=5", "VLA_API_REPLICAS=some"))
    refused = place.install()
    assert (refused.returncode, "VLA_API_REPLICAS in .env must be a number" in refused.stderr) == (1, True)


def test_its_secrets_are_long_different_and_said_to_nobody(place: Place) -> None:
    done = place.install("--public-url", _URL)
    secrets = place.secrets
    assert set(secrets) == {name for name in compose_file.required() if _SECRET.match(f"{name}=")}
    assert len(set(secrets.values())) == len(secrets)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in secrets.values())
    assert not any(value in done.stdout + done.stderr for value in secrets.values())


def test_a_second_run_changes_nothing(place: Place) -> None:
    assert place.install("--public-url", _URL, "--admin-networks", "10.0.0.0/8").returncode == 0
    before = place.files()
    again = place.install()
    assert again.returncode == 0, again.stderr
    assert place.files() == before
    assert [line for line in again.stdout.splitlines() if not line.startswith("· ready")] == []


def test_a_new_release_changes_images_and_no_secret(place: Place) -> None:
    assert place.install("--public-url", _URL).returncode == 0
    secrets = place.secrets
    images = place.root / "deploy/docker/images.env"
    images.write_text(re.sub(r"postgres:18\.6-trixie.*", "postgres:18.7-trixie", images.read_text()))
    with (place.root / ".env").open("a") as env:
        env.write("VLA_TRITON_MEMORY=48g\n")
    assert place.install().returncode == 0
    text = (place.root / ".env").read_text()
    assert "POSTGRES_IMAGE=postgres:18.7-trixie\n" in text
    assert "VLA_TRITON_MEMORY=48g\n" in text
    assert place.secrets == secrets
    assert stat.S_IMODE((place.root / ".env").stat().st_mode) == 0o600


def test_its_certificate_is_its_authority_s_and_for_the_public_name(place: Place) -> None:
    assert place.install("--public-url", f"{_URL}:8443").returncode == 0
    authority, chain = place.root / "site/ca/ca.pem", place.root / "site/tls/fullchain.pem"
    assert _openssl("verify", "-CAfile", str(authority), "-purpose", "sslserver", str(chain)).endswith(": OK\n")
    assert "DNS:api.example.com" in _openssl("x509", "-in", str(chain), "-noout", "-ext", "subjectAltName")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, place.root / "site/tls/privkey.pem")
    key = (place.root / "site/tls/privkey.pem").stat()
    if os.geteuid() == 0 and place.user is None:
        assert (stat.S_IMODE(key.st_mode), key.st_uid) == (0o400, 101)  # nginx's user in its container, and nobody else
    assert stat.S_IMODE((place.root / "site/ca/ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((place.root / "site/ca").stat().st_mode) == 0o700


def test_its_own_certificate_is_renewed_in_time_by_the_same_authority(place: Place) -> None:
    assert place.install("--public-url", _URL).returncode == 0
    authority = (place.root / "site/ca/ca.pem").read_bytes()
    chain, key = place.root / "site/tls/fullchain.pem", place.root / "site/tls/privkey.pem"
    make_certificate_of_two_days(place)
    short_lived = chain.read_bytes()
    renewed = place.install()
    assert renewed.returncode == 0, renewed.stderr
    assert chain.read_bytes() != short_lived
    assert (place.root / "site/ca/ca.pem").read_bytes() == authority
    assert _openssl("verify", "-CAfile", str(place.root / "site/ca/ca.pem"), str(chain)).endswith(": OK\n")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)


@pytest.mark.parametrize("url", ["https://robots.example.com", "https://192.0.2.7:8443"])
def test_another_public_url_has_a_certificate_for_its_name(place: Place, url: str) -> None:
    assert place.install("--public-url", _URL).returncode == 0
    authority, chain = place.root / "site/ca/ca.pem", place.root / "site/tls/fullchain.pem"
    old = authority.read_bytes()
    moved = place.install("--public-url", url)
    assert moved.returncode == 0, moved.stderr
    name = ("-verify_ip", "192.0.2.7") if "192" in url else ("-verify_hostname", "robots.example.com")
    assert _openssl("verify", "-CAfile", str(authority), *name, str(chain)).endswith(": OK\n")
    assert authority.read_bytes() == old
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, place.root / "site/tls/privkey.pem")
    before = place.files()
    assert place.install().returncode == 0
    assert place.files() == before


@pytest.mark.parametrize("place", ["as this user"], indirect=True)
def test_a_given_certificate_of_another_name_is_refused(place: Place, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "other.example.com")
    refused = place.install("--public-url", _URL, "--cert", str(certificate), "--key", str(key))
    assert refused.returncode == 1
    assert f"--cert is not for {_URL}" in refused.stderr
    assert not (place.root / ".env").exists()


def make_certificate_of_two_days(place: Place) -> None:
    """In place of the one that was made."""
    folder = place.root / "site/tls"
    owners = {path: path.stat() for path in folder.iterdir()}
    for path in owners:
        path.unlink()
    make_certificate(folder, "api.example.com")
    for path, was in owners.items():
        os.chown(path, was.st_uid, was.st_gid)


def test_a_given_certificate_is_taken_and_kept(place: Place, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "api.example.com")
    certificate.chmod(0o644)
    key.chmod(0o644)
    done = place.install("--public-url", _URL, "--cert", str(certificate), "--key", str(key))
    assert done.returncode == 0, done.stderr
    assert (place.root / "site/tls/fullchain.pem").read_bytes() == certificate.read_bytes()
    before = place.files()
    assert place.install().returncode == 0  # it ends in two days: whose it is renews it
    assert place.files() == before
    moved = place.install("--public-url", "https://robots.example.com")
    assert moved.returncode == 1
    assert "the certificate in site/tls is not for https://robots.example.com" in moved.stderr
    assert place.files() == before


def test_what_it_wrote_is_what_nginx_reads(place: Place, tmp_path: Path) -> None:
    """The committed nginx.conf with the site's own file and certificate, tried by a real nginx."""
    options = ("--admin-networks", "10.0.0.0/8,fd00::/8", "--lb-networks", "192.0.2.0/24")
    assert place.install("--public-url", _URL, *options).returncode == 0
    text = (place.root / "deploy/nginx/nginx.conf").read_text()
    text = text.replace('access_log "/dev/stdout" json', "access_log off").replace("stub_status;", "return 200;")
    for before, after in {
        '"/tmp': f'"{tmp_path}',
        "/etc/nginx/site": f"{place.root}/site/nginx",
        "/etc/nginx/tls": f"{place.root}/site/tls",
    }.items():
        text = text.replace(before, after)
    conf = tmp_path / "nginx.conf"
    conf.write_text(text)
    argv = [
        str(program("nginx", override=None, setting="VLA_NGINX_BIN")),
        "-t",
        "-e",
        "stderr",
        "-p",
        str(tmp_path),
        "-c",
        str(conf),
    ]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    site = (place.root / "site/nginx/site.conf").read_text()
    assert "fd00::/8 1;" in site
    assert "set_real_ip_from 192.0.2.0/24;" in site


@pytest.mark.parametrize("place", ["as this user"], indirect=True)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--public-url is needed the first time"),
        (("--public-url", "http://api.example.com"), "is not https://"),
        (("--public-url", 'https://a"; return 200 "'), "is not https://"),
        (("--public-url", _URL, "--admin-networks", "10.0.0.0/8; deny all"), "are not networks"),
        (("--public-url", _URL, "--lb-networks", "everybody"), "are not networks"),
        (("--public-url", _URL, "--alert-webhook", "pager"), "--alert-webhook"),
        (("--public-url", _URL, "--cert", "/dev/null", "--key", "/dev/null"), "--cert: no certificate"),
        (("--public-url", _URL, "--cert", "/dev/null"), "--cert and --key belong together"),
        (("--publik-url", _URL), "unknown option"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(place: Place, words: tuple[str, ...], said: str) -> None:
    before = place.files()
    refused = place.install(*words)
    assert refused.returncode != 0
    assert said in refused.stderr
    assert place.files() == before


def test_a_key_of_another_certificate_is_refused(place: Place, tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
    pairs = [make_certificate(folder, "api.example.com") for folder in (tmp_path / "one", tmp_path / "two")]
    for path in (*pairs[0], *pairs[1]):
        path.chmod(0o644)
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.chmod(0o755)
    refused = place.install("--public-url", _URL, "--cert", str(pairs[0][0]), "--key", str(pairs[1][1]))
    assert refused.returncode == 1
    assert "--key does not belong to --cert" in refused.stderr


def test_a_secret_that_would_break_an_address_is_refused(place: Place) -> None:
    env = place.root / ".env"
    env.write_text("REDIS_PASSWORD=a/b@c\n")
    if place.user is not None:
        os.chown(env, place.user, place.user)
    refused = place.install("--public-url", _URL)
    assert refused.returncode == 1
    assert "REDIS_PASSWORD in .env must be 16 or more" in refused.stderr
    assert env.read_text() == "REDIS_PASSWORD=a/b@c\n"


def test_a_machine_without_an_engine_is_told_so(place: Place) -> None:
    told = subprocess.run(
        [str(place.root / "deploy/install.sh"), "--public-url", _URL],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(place.root)},
    )
    assert told.returncode == 1
    assert "docker" in told.stderr
    assert not (place.root / ".env").exists()


def _openssl(*words: str) -> str:
    return subprocess.run(["openssl", *words], capture_output=True, text=True, check=True).stdout
