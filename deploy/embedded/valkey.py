"""Valkey as an embedded server: append-only file, no eviction, a password in a 0600 file (never in the process list).

With `everysec` a killed Valkey or a power cut may forget the last second or two; the journal adds those events again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from deploy.embedded.server import NotReadyError, Port, Server

_CONF = """\
bind 127.0.0.1
port {port}
protected-mode yes
dir "{data}"
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory {memory_mb}mb
maxmemory-policy noeviction
loglevel notice
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where a Valkey keeps its data and how to reach it."""

    program: Path
    data: Path
    port: Port
    password: str
    memory_mb: int = 512

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"redis://:{self.password}@127.0.0.1:{self.port.number}/0"


def valkey(store: Store, *, environment: Mapping[str, str]) -> Server:
    """The server."""
    return Server(
        name="valkey",
        argv=(str(store.program), str(_conf(store))),
        environment=environment,
        folder=store.data.parent,
        prepare=lambda: _write_conf(store),
        check=lambda _: _answers(store),
        ports=(store.port,),
        stop_timeout_s=10.0,
    )


def _conf(store: Store) -> Path:
    return store.data.with_suffix(".conf")


def _write_conf(store: Store) -> None:
    store.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = _CONF.format(port=store.port.number, data=store.data, password=store.password, memory_mb=store.memory_mb)
    path = _conf(store)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)


async def _answers(store: Store) -> None:
    client = Redis.from_url(store.url, socket_connect_timeout=2.0, socket_timeout=2.0)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None
    finally:
        await client.aclose()
