"""Production's nginx.conf, run for real: other paths and ports, everything else as `python -m deploy.nginx` writes it.

Also the API processes behind it (one small ASGI program that says which it is) and a certificate. Used by tests of this room.
"""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from deploy.embedded.binaries import program
from deploy.embedded.nginx import built_with
from deploy.embedded.server import NotReadyError, Server
from deploy.embedded.settings import ROOT
from deploy.nginx.__main__ import production
from deploy.nginx.conf import Conf, Limits, Tls, render, site_lines
from tests.conftest import ENVIRONMENT, free_port, running

# Says which process it is; notes every request that reached it; /hang never answers; a WebSocket gets its words back.
_APP = """
import asyncio, json, os, sys
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(scope["path"] + chr(10))
    if scope["path"] == "/hang":
        await asyncio.sleep(600)
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.dumps({"size": size, "pid": os.getpid(), "at": os.environ["AT"], "headers": headers}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
"""
PUBLIC_URL = "https://api.example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One API process behind the door, on an address and port of its own."""

    address: str
    port: int
    seen: Path

    @property
    def requests(self) -> list[str]:
        """The paths that reached it."""
        return self.seen.read_text().splitlines() if self.seen.exists() else []


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionDoor:
    """A running nginx of production's shape."""

    folder: Path
    conf: Conf
    port: int
    plain_port: int
    status_port: int
    certificate: Path

    @property
    def pid(self) -> int:
        """Its master process."""
        return int((self.folder / "nginx.pid").read_text())

    def context(self) -> ssl.SSLContext:
        """A client's, which trusts this certificate and no other."""
        return ssl.create_default_context(cafile=self.certificate)

    def connect(self, timeout_s: float = 20) -> HTTPSConnection:
        """A line that can be used again and again."""
        return HTTPSConnection("localhost", self.port, timeout=timeout_s, context=self.context())

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], Any]:
        """One request on a line of its own."""
        with closing(self.connect()) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, dict(response.headers.items()), json.loads(response.read() or b"null")

    def reload(self) -> None:
        """What a new certificate or another limit takes."""
        os.kill(self.pid, signal.SIGHUP)


def make_certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """For that name and this machine, signed by itself."""
    certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
    subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    argv = ("openssl", "req", *kind, *subject, "-keyout", str(key), "-out", str(certificate))
    subprocess.run(argv, check=True, capture_output=True)
    return certificate, key


def listens(port: int) -> bool:
    """Whether somebody does, on this machine."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def server_on(name: str, argv: tuple[str, ...], port: int, folder: Path) -> Server:
    """One that is ready as soon as it listens."""

    async def check(_: int) -> None:
        if not await asyncio.to_thread(listens, port):
            raise NotReadyError("no socket yet")

    return Server(name=name, argv=argv, environment=ENVIRONMENT, folder=folder, check=check, stop_timeout_s=10)


def replica(folder: Path, *, address: str = "127.0.0.1", port: int | None = None) -> tuple[Replica, Server]:
    """What it is, and how to run it."""
    number = port or free_port().number
    here = Replica(address=address, port=number, seen=folder / f"seen-{address}-{number}")
    (folder / "replica_app.py").write_text(_APP)

    async def check(_: int) -> None:
        with closing(socket.socket()) as probe:
            if await asyncio.to_thread(probe.connect_ex, (here.address, here.port)) != 0:
                raise NotReadyError("no socket yet")

    argv = (sys.executable, "-m", "uvicorn", "replica_app:app", "--host", here.address, "--port", str(here.port))
    environment = {**ENVIRONMENT, "SEEN": str(here.seen), "AT": here.address}
    return here, Server(
        name="replica", argv=(*argv, "--no-proxy-headers"), environment=environment, folder=folder, check=check, stop_timeout_s=1
    )


def servers(*replicas: Replica) -> tuple[str, ...]:
    """Lines of the upstream, as production has them but for the name server."""
    lines = (f"server {one.address}:{one.port} max_fails=3 fail_timeout=2s;" for one in replicas)
    return ("zone api 256k;", "least_conn;", *lines)


@contextmanager
def production_door(
    folder: Path,
    *,
    upstreams: tuple[str, ...],
    limits: Limits | None = None,
    edits: dict[str, str] | None = None,
    is_followed: bool = False,
    chosen: Path | None = None,
) -> Iterator[ProductionDoor]:
    """Runs one. `edits` replaces text of the configuration that must be in it; `is_followed`: started as in the container."""
    for made in (folder, folder / "tls", folder / "site"):
        made.mkdir()
    certificate, key = make_certificate(folder / "tls")
    chosen = chosen or program("nginx", override=None, setting="VLA_NGINX_BIN")
    port, plain, status = (free_port().number for _ in range(3))
    local = "127.0.0.1:{}"
    built = built_with(chosen)
    conf = replace(
        production({}),
        limits=limits or production({}).limits,
        scratch=str(folder),
        access_log=str(folder / "access.log"),
        listen=local.format(port),
        upstreams=upstreams,
        site=site_lines(operators=("192.0.2.0/24",), trusted=(), public_url=PUBLIC_URL),
        docs=str(folder / "docs"),
        open_files=1024,
        version=built.version,
        has_stub_status=built.has_stub_status,
        workers="2",
        user="root root" if os.geteuid() == 0 else "",
        tls=Tls(
            certificate=str(certificate),
            key=str(key),
            plain_listen=local.format(plain),
            acme=str(folder / "acme"),
            status_listen=local.format(status),
        ),
    )
    text = render(conf)
    for before, after in (edits or {}).items():
        assert before in text
        text = text.replace(before, after)
    (folder / "nginx.conf").write_text(text)
    door = ProductionDoor(folder=folder, conf=conf, port=port, plain_port=plain, status_port=status, certificate=certificate)
    with running(_server(door, chosen, is_followed=is_followed), log=folder / "nginx.log"):
        yield door


def _server(door: ProductionDoor, chosen: Path, *, is_followed: bool) -> Server:
    async def check(_: int) -> None:
        with closing(socket.socket()) as probe:
            if await asyncio.to_thread(probe.connect_ex, ("127.0.0.1", door.port)) != 0:
                raise NotReadyError("no socket yet")

    conf, environment = door.folder / "nginx.conf", dict(ENVIRONMENT)
    argv: tuple[str, ...] = (str(chosen), "-p", str(door.folder), "-e", "stderr", "-c", str(conf), "-g", "daemon off;")
    if is_followed:
        argv = (str(ROOT / "deploy/docker/nginx.sh"),)
        (door.folder / "bin").mkdir()
        (door.folder / "bin/nginx").symlink_to(chosen)
        environment |= {"NGINX_CONF": str(conf), "TLS_DIR": str(door.folder / "tls"), "SITE_DIR": str(door.folder / "site")}
        environment |= {"PATH": f"{door.folder / 'bin'}:{ENVIRONMENT['PATH']}", "FOLLOW_EVERY_S": "0.2"}
    return Server(name="nginx", argv=argv, environment=environment, folder=door.folder, check=check, stop_signal=signal.SIGQUIT)
