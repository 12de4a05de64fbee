"""PostgreSQL as an embedded server: creates its cluster once, runs it small, on loopback, with passwords.

As root it runs inside a user namespace: PostgreSQL refuses uid 0, and this way no Unix user is added and every file stays root's.
`fsync` stays on unless `is_durable` is false (tests: a process kill still loses nothing, a power cut may).
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from deploy.embedded.server import NotReadyError, Port, Server, StartError

ROLE = DATABASE = "vlaapi"
_RECOVERED_WITHIN_S = 24 * 3600.0  # a base backup that was unpacked here reads its log first, file by file
_ARCHIVED_WITHIN_S = 40.0  # its last act is to hand over what it wrote last
READER = "vlaapi_reader"  # what dashboards read as; the migrations grant it the views
_MAX_SOCKET_BYTES = 107  # sun_path less its final zero; PostgreSQL and Valkey refuse longer ones
_UNPRIVILEGED = ("unshare", "--user", "--map-user=65534", "--map-group=65534")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Who takes the files of the write-ahead log, and how long one may be filled before it is handed over all the same."""

    command: str
    every_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where a cluster lies and how to reach it. `sockets` is a short private folder; `programs` holds initdb and postgres."""

    programs: Path
    data: Path
    sockets: Path
    port: Port
    password: str
    is_durable: bool = True
    archive: Archive | None = None

    def url(self, database: str = DATABASE) -> str:
        """The address for clients."""
        return f"postgresql://{ROLE}:{self.password}@127.0.0.1:{self.port.number}/{database}"


def postgres(cluster: Cluster, *, environment: Mapping[str, str]) -> Server:
    """The server. SIGINT is PostgreSQL's "fast" shutdown; SIGTERM would wait for every client to leave."""
    options = [argument for name, value in _options(cluster).items() for argument in ("-c", f"{name}={value}")]
    return Server(
        name="postgres",
        argv=(*_as_unprivileged(), str(cluster.programs / "postgres"), "-D", str(cluster.data), *options),
        environment=environment,
        folder=cluster.data.parent,
        prepare=lambda: _prepare(cluster, environment),
        check=lambda pid: _answers(cluster, pid),
        ports=(cluster.port,),
        stop_signal=signal.SIGINT,
        stop_timeout_s=10.0 if cluster.archive is None else _ARCHIVED_WITHIN_S,
        start_timeout_s=_RECOVERED_WITHIN_S if (cluster.data / "recovery.signal").exists() else 30.0,
    )


def _options(cluster: Cluster) -> dict[str, str]:
    durable, archive = "on" if cluster.is_durable else "off", cluster.archive
    archived = {} if archive is None else {"archive_command": archive.command, "archive_timeout": str(archive.every_s)}
    return {
        "listen_addresses": "127.0.0.1",
        "port": str(cluster.port.number),
        "unix_socket_directories": str(cluster.sockets),
        "max_connections": "60",
        "shared_buffers": "64MB",
        "max_wal_size": "512MB",
        "fsync": durable,
        "full_page_writes": durable,
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
        "recovery_init_sync_method": "syncfs",  # after a crash: one call, where fsync of 1345 files took 6 s on a busy disk
        "archive_mode": "off" if archive is None else "on",
        **archived,
    }


async def _answers(cluster: Cluster, pid: int) -> None:
    """First what the server writes about itself, as `pg_ctl -w` does: a connection before that fills the log with refusals."""
    if _said_about(cluster, pid) != "ready":
        raise NotReadyError("it is starting or recovering")
    try:
        connection = await asyncpg.connect(cluster.url(), timeout=2.0)
        is_recovering = await connection.fetchval("SELECT pg_is_in_recovery()", timeout=2.0)
        await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None
    if is_recovering:
        raise NotReadyError("it reads its log, and takes no writes yet")


def _said_about(cluster: Cluster, pid: int) -> str | None:
    """The state that this very process has written into postmaster.pid (its eighth line; the first is the pid)."""
    try:
        lines = (cluster.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    return lines[7].strip() if len(lines) > 7 and lines[0] == str(pid) else None


def _prepare(cluster: Cluster, environment: Mapping[str, str]) -> None:
    create_cluster(cluster, environment=environment)
    cluster.sockets.mkdir(mode=0o700, exist_ok=True)
    for lock in (cluster.data / "postmaster.pid", cluster.sockets / f".s.PGSQL.{cluster.port.number}.lock"):
        if lock.exists() and not _is_server_of(cluster, lock.read_text().partition("\n")[0]):
            lock.unlink()


def _is_server_of(cluster: Cluster, pid: str) -> bool:
    """After a reboot the pid in an old lock may be anybody's, and PostgreSQL would then refuse to start for ever."""
    try:
        return str(cluster.data) in psutil.Process(int(pid)).cmdline()
    except (ValueError, psutil.Error):
        return False


def create_cluster(cluster: Cluster, *, environment: Mapping[str, str]) -> None:
    """Makes the cluster, its role and its database, unless it exists. All or nothing: it is built aside and then renamed."""
    socket = cluster.sockets / f".s.PGSQL.{cluster.port.number}"
    if len(os.fsencode(socket)) > _MAX_SOCKET_BYTES:
        raise StartError(f"postgres: the socket path {socket} is longer than {_MAX_SOCKET_BYTES} bytes")
    if cluster.data.exists():
        return _refuse_another_major(cluster, environment)
    aside = cluster.data.with_name(f"{cluster.data.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    initdb = (str(cluster.programs / "initdb"), "-D", str(aside), "--username=postgres", "--encoding=UTF8", "--locale=C")
    locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--sync-method=syncfs")
    _run((*initdb, *locale, "--auth=scram-sha-256", "--pwfile=/dev/stdin"), environment, stdin=f"{cluster.password}\n")
    role = f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{cluster.password}';\nCREATE DATABASE {DATABASE} OWNER {ROLE};\n"
    role += f"CREATE ROLE {READER} NOLOGIN;\n"  # the service's own role may create none
    _run((str(cluster.programs / "postgres"), "--single", "-D", str(aside), "postgres"), environment, stdin=role)
    aside.rename(cluster.data)
    return None


def _refuse_another_major(cluster: Cluster, environment: Mapping[str, str]) -> None:
    there = (cluster.data / "PG_VERSION").read_text().strip()
    ours = _run((str(cluster.programs / "postgres"), "--version"), environment).split()[-1].split(".")[0]
    if there != ours:
        raise StartError(
            f"postgres: {cluster.data} was made by PostgreSQL {there}, this is {ours}; "
            f"set VLA_POSTGRES_BIN to the programs of {there}, or dump and restore"
        )


def _run(argv: tuple[str, ...], environment: Mapping[str, str], *, stdin: str = "") -> str:
    done = subprocess.run(
        [*_as_unprivileged(), *argv], input=stdin, capture_output=True, text=True, env=dict(environment), check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise StartError(f"postgres: {Path(argv[0]).name} failed: {last}")
    return done.stdout


def _as_unprivileged() -> tuple[str, ...]:
    return _UNPRIVILEGED if os.geteuid() == 0 else ()


def refuse_root_without_namespaces() -> None:
    """As root, checks that this kernel lets us make a user namespace. Raises StartError saying what to do instead."""
    if os.geteuid() != 0:
        return
    try:
        done = subprocess.run([*_UNPRIVILEGED, "true"], capture_output=True, text=True, check=False)
        fault = done.stderr.strip() if done.returncode else None
    except FileNotFoundError:
        fault = "the program unshare (util-linux) is missing"
    if fault:
        raise StartError(f"postgres: refuses to run as root, and a user namespace is not available ({fault}); use another user")
