"""SeaweedFS as an embedded S3 server: one process (`weed mini`) with its master, volume and filer on loopback, telemetry off.

Objects are served through S3 with credentials only: the filer's own HTTP, which asks for none, is switched off. Its gRPC ports
stay open on loopback: a machine with users who must not see the objects needs a store elsewhere (`VLA_OBJECT_STORE_URL`).
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from deploy.embedded.canary import connection_status
from deploy.embedded.server import NotReadyError, Port, Server, StartError
from deploy.embedded.state import write_private

ACCESS_KEY = "vlaapi"
BUCKET = "vlaapi"

# Which port of the block is whose; the first is S3. `admin` is never opened, but the program wants a number.
_BLOCK = (
    "s3.port",
    "master.port",
    "volume.port",
    "filer.port",
    "s3.port.grpc",
    "master.port.grpc",
    "volume.port.grpc",
    "filer.port.grpc",
    "admin.port.grpc",
    "metricsPort",
    "admin.port",
)
PORTS = len(_BLOCK)
_ACTIONS = ["Admin", "Read", "List", "Tagging", "Write"]

# Off: what would be served, sent or made by itself. The last two: a stop takes a second less, and a small file per volume.
_FIXED = (
    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-metricsIp=127.0.0.1"),
    *("-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-master.telemetry=false", "-disableHttp"),
    *("-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false"),
    *("-volume.preStopSeconds=0", "-master.volumePreallocate=false"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weed:
    """Where a SeaweedFS keeps its data and how to reach it. `first` is the first of PORTS ports in a row."""

    program: Path
    data: Path
    sockets: Path
    first: Port
    secret_key: str

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://{ACCESS_KEY}:{self.secret_key}@127.0.0.1:{self.first.number}/{BUCKET}"

    @property
    def ports(self) -> dict[str, Port]:
        """Every port by its flag."""
        return {flag: Port(number=self.first.number + offset, setting=self.first.setting) for offset, flag in enumerate(_BLOCK)}


def seaweedfs(weed: Weed, *, environment: Mapping[str, str]) -> Server:
    """The server. Inference does not need it, so nothing waits for it and the service starts without it."""
    return Server(
        name="seaweedfs",
        argv=(
            *(str(weed.program), "-logtostderr=true", "mini", f"-dir={weed.data}", f"-s3.config={_conf(weed)}"),
            *(f"-{flag}={port.number}" for flag, port in weed.ports.items()),
            *(f"-{name}.localSocket={weed.sockets / f'weed-{name}.sock'}" for name in ("s3", "filer")),
            *_FIXED,
        ),
        environment={**environment, "HOME": str(weed.data)},  # where it would look for somebody else's settings
        folder=weed.data.parent,
        prepare=lambda: _prepare(weed),
        check=lambda _: asyncio.to_thread(_answers, weed),
        ports=tuple(weed.ports.values()),
        stop_timeout_s=8.0,
        is_awaited=False,
    )


def _conf(weed: Weed) -> Path:
    return weed.data.with_suffix(".json")


def _prepare(weed: Weed) -> None:
    weed.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    weed.sockets.mkdir(mode=0o700, exist_ok=True)
    _refuse_foreign_sockets(weed)
    identity = {"name": ACCESS_KEY, "credentials": [{"accessKey": ACCESS_KEY, "secretKey": weed.secret_key}], "actions": _ACTIONS}
    write_private(_conf(weed), json.dumps({"identities": [identity]}).encode())


def _refuse_foreign_sockets(weed: Weed) -> None:
    """It puts sockets into /tmp that no flag moves. One that another user left there would block the start without a word."""
    for flag, port in weed.ports.items():
        path = Path(f"/tmp/seaweedfs-{flag.partition('.')[0]}-grpc-{port.number}.sock")  # noqa: S108 -- the program's own choice
        if flag.endswith(".grpc") and path.is_socket() and path.lstat().st_uid != os.geteuid():
            raise StartError(f"seaweedfs: {path} belongs to another user; {port.setting} moves it")


def _answers(weed: Weed) -> None:
    connection = HTTPConnection("127.0.0.1", weed.first.number, timeout=2.0)
    try:
        if (status := connection_status(connection, "/healthz")) != 200:
            raise NotReadyError(f"HTTP {status}")
    except (OSError, HTTPException) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
