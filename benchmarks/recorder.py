"""What metering costs: rows a second from the stream into PostgreSQL with roll-ups, and what journalling costs the API process.

Starts its own PostgreSQL (fsync on) and Valkey (append-only file) from the embedded definitions, and a real worker process.
`main()` is called by `python -m benchmarks`; `python -m benchmarks.recorder` runs it alone.
"""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
from redis.asyncio import Redis

from benchmarks.cpu import cpu_seconds
from benchmarks.stack import ROOT, free_ports
from control_plane.logs import create_log
from control_plane.metrics import create_metrics
from control_plane.migrations import upgrade
from control_plane.redis import create_redis
from control_plane.usage.event import UsageEvent, UsageStatus, encode
from control_plane.usage.journal import Journal
from control_plane.usage.recent import Recent
from control_plane.usage.request_id import instant_of, mint_at
from control_plane.usage.spool import Spool
from control_plane.usage.stream import STREAM, add
from deploy.embedded import child
from deploy.embedded.binaries import program
from deploy.embedded.postgres import Cluster, postgres
from deploy.embedded.server import Port, Server, wait_until_ready
from deploy.embedded.valkey import Store, valkey

RESULT = ROOT / "benchmarks" / "results" / "recorder.json"
BUDGET_ROWS_PER_S = 5000
CUSTOMERS = 20
WORKER = (
    "from control_plane.settings import load_settings; from control_plane.worker import run_worker; run_worker(load_settings())"
)

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each."""

    rows: int = 20_000
    horizons: tuple[int, ...] = (1, 8, 50)
    records: int = 3_000
    clients: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The two servers, and a folder for what else is needed."""

    folder: Path
    database_url: str
    redis_url: str


def main(sizes: Sizes | None = None) -> dict[str, Any]:
    """Measures, writes benchmarks/results/recorder.json and returns the same."""
    with own_stores() as stores:
        upgrade(stores.database_url)
        result = asyncio.run(_measure(stores, sizes or Sizes()))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    return result


@contextlib.contextmanager
def own_stores() -> Iterator[Stores]:
    """A durable PostgreSQL and a Valkey, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-", dir="/tmp") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        ports = [Port(number=port, setting="(picked by the benchmark)") for port in free_ports(2)]
        cluster = Cluster(
            programs=program("postgres", override=None, setting="VLA_POSTGRES_BIN"),
            data=folder / "postgres",
            sockets=folder,
            port=ports[0],
            password=secrets.token_hex(16),
        )
        store = Store(
            program=program("valkey", override=None, setting="VLA_VALKEY_BIN"),
            data=folder / "valkey",
            port=ports[1],
            password=secrets.token_hex(16),
        )
        stack.enter_context(running(postgres(cluster, environment=_ENVIRONMENT)))
        stack.enter_context(running(valkey(store, environment=_ENVIRONMENT)))
        yield Stores(folder=folder, database_url=cluster.url(), redis_url=store.url)


@contextlib.contextmanager
def running(server: Server) -> Iterator[None]:
    """The server, ready; stopped at the end."""
    server.prepare()
    process = child.spawn(server, log=server.folder / f"{server.name}.log")
    try:
        asyncio.run(wait_until_ready(server, process.pid, is_alive=lambda: process.poll() is None))
        yield
    finally:
        child.stop(server, process)


async def _measure(stores: Stores, sizes: Sizes) -> dict[str, Any]:
    redis = create_redis(stores.redis_url, timeout_s=5.0)
    customers = await _customers(stores.database_url)
    recorder = [await _recorder_row(stores, redis, make_events(customers, sizes.rows, h), h) for h in sizes.horizons]
    journal = [await _journal_row(stores, redis, customers[0], fsync, sizes) for fsync in ("everysec", "always")]
    journal.append(await _spool_row(stores, customers[0], sizes))
    await redis.aclose()
    return {
        "rows_per_s": recorder[0]["rows_per_s"],
        "budget_rows_per_s": BUDGET_ROWS_PER_S,
        "recorder": recorder,
        "journal": journal,
        "cores": os.cpu_count(),
    }


async def _customers(database_url: str) -> list[UUID]:
    connection = await asyncpg.connect(database_url)
    ids = [uuid4() for _ in range(CUSTOMERS)]
    await connection.executemany(
        "INSERT INTO customer_accounts (id, company_name, email, tier) VALUES ($1, 'Bench', $2, 'pro')",
        [(customer_id, f"{customer_id}@example.com") for customer_id in ids],
    )
    await connection.close()
    return ids


def make_events(customers: list[UUID], count: int, horizon: int) -> list[UsageEvent]:
    """Successful requests of the last hour, spread over the customers, each with `horizon` steps of 7 numbers."""
    start = datetime.now(UTC) - timedelta(hours=1)
    chunk = np.random.default_rng(0).uniform(-0.3, 0.3, (horizon, 7)).astype(np.float32).tolist()
    return [_event(customers[n % len(customers)], start + timedelta(hours=1) * n / count, chunk) for n in range(count)]


def _event(customer_id: UUID, at: datetime, chunk: list[list[float]]) -> UsageEvent:
    request_id = mint_at(at)
    return UsageEvent(
        request_id=request_id,
        customer_id=customer_id,
        key_id=customer_id,
        occurred_at=instant_of(request_id),
        route="/v1/inference",
        policy="tabletop",
        policy_version=1,
        robot_type="franka_panda",
        status=UsageStatus.SUCCESS,
        latency_ms=24.3,
        compute_ms=21.0,
        instruction="pick up the red cube and hold it above the table",
        action=chunk,
        decision="pass",
        safety_score=0.92,
        limiting_rule="B1.ee_linear_speed",
        session_id="episode-17",
    )


async def _recorder_row(stores: Stores, redis: Redis, events: list[UsageEvent], horizon: int) -> dict[str, Any]:
    """Fills the stream, then lets one worker empty it. Timed from the first acknowledged batch to the last."""
    pipeline = redis.pipeline(transaction=False)
    for event in events:
        add(pipeline, encode(event))
    await pipeline.execute()
    async with _worker(stores) as pid:
        left = await _until(redis, lambda length: length < len(events))
        began, used = time.perf_counter(), cpu_seconds([pid])
        await _until(redis, lambda length: length == 0)
        took, used = time.perf_counter() - began, cpu_seconds([pid]) - used
    return {"horizon": horizon, "rows_per_s": round(left / took), "worker_cpu_us_per_row": round(used / left * 1e6, 1)}


@contextlib.asynccontextmanager
async def _worker(stores: Stores) -> AsyncIterator[int]:
    settings = {
        "VLA_DATABASE_URL": stores.database_url,
        "VLA_REDIS_URL": stores.redis_url,
        "VLA_TRITON_URL": "127.0.0.1:1",
        "VLA_KEY_PEPPER": secrets.token_hex(16),
        "VLA_MODEL_REPOSITORY": str(stores.folder),
        "VLA_SPOOL_DIR": str(stores.folder / "no-spool"),
    }
    environment = {**_ENVIRONMENT, **settings, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    process = await asyncio.create_subprocess_exec(*(sys.executable, "-c", WORKER), env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def _until(redis: Redis, is_so: Callable[[int], bool]) -> int:
    """Polls the stream's length; returns the one that satisfied."""
    while True:
        length: int = await redis.xlen(STREAM)
        if is_so(length):
            return length
        await asyncio.sleep(0.01)


async def _journal_row(stores: Stores, redis: Redis, customer_id: UUID, fsync: str, sizes: Sizes) -> dict[str, Any]:
    await redis.config_set("appendfsync", fsync)
    spool = Spool(stores.folder / "spool")
    journal = Journal(redis=redis, spool=spool, recent=Recent(), metrics=create_metrics(), log=create_log("warning"))
    row = {"sink": f"stream, appendfsync {fsync}", **await _timed(journal.record, customer_id, sizes)}
    await spool.close()
    await redis.delete(STREAM)
    return row


async def _spool_row(stores: Stores, customer_id: UUID, sizes: Sizes) -> dict[str, Any]:
    spool = Spool(stores.folder / "spool")
    await spool.start()
    row = {"sink": "spool, fsync", **await _timed(lambda event: spool.append(encode(event)), customer_id, sizes)}
    await spool.close()
    return row


async def _timed(record: Callable[[UsageEvent], Awaitable[None]], customer_id: UUID, sizes: Sizes) -> dict[str, Any]:
    """CPU of this process per record and latency of each, with `clients` at a time."""
    events = make_events([customer_id], sizes.records, 8)
    for event in events[: sizes.records // 10]:
        await record(event)
    latencies_ms: list[float] = []

    async def client(share: list[UsageEvent]) -> None:
        for event in share:
            began = time.perf_counter()
            await record(event)
            latencies_ms.append((time.perf_counter() - began) * 1e3)

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client(events[n :: sizes.clients]) for n in range(sizes.clients)))
    took, used = time.perf_counter() - began, time.process_time() - used
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return {
        "clients": sizes.clients,
        "records_per_s": round(sizes.records / took),
        "cpu_us_per_record": round(used / sizes.records * 1e6, 1),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
    }


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
