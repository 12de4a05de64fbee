"""What closing a month costs: a million usage rows of 1,000 paying customers, rated, invoiced and printed by the real command.

Starts its own PostgreSQL (fsync on) from the embedded definition; every tenth customer changes the plan in the middle of a day.
The memory of the closing process is looked at while it works. `python -m benchmarks.billing` runs it alone.
"""

import asyncio
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psutil

from benchmarks.recorder import running
from benchmarks.stack import ROOT, free_ports
from control_plane.migrations import upgrade
from control_plane.usage.partitions import ensure_partitions
from control_plane.usage.request_id import mint_at
from control_plane.usage.roll_ups import COUNTED, DAY, add
from deploy.embedded.binaries import program
from deploy.embedded.postgres import Cluster, postgres
from deploy.embedded.server import Port

RESULT = ROOT / "benchmarks" / "results" / "billing.json"
MONTH, DAYS = date(2026, 10, 1), 31
BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
CUSTOMERS, ROWS = 1_000, 1_000_000
BUDGET_S = 120
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
_COLUMNS = [
    *("request_id", "timestamp", "customer_id", "key_id", "route", "model", "model_version", "robot_type"),
    *("latency_ms", "status", "is_billable", "payload_hash"),
]


def main(*, customers: int = CUSTOMERS, rows: int = ROWS) -> dict[str, Any]:
    """Measures, writes the result and returns it."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-", dir="/tmp") as folder, _database(Path(folder)) as url:
        filled_s = _timed(lambda: asyncio.run(_fill(url, customers, rows)))
        closed = _close(url)
        found = asyncio.run(_looked_at(url))
        again_s = _close(url)["seconds"]
    result = {"customers": customers, "usage_rows": rows, "filling_s": filled_s, **closed, "closing_again_s": again_s, **found}
    result |= {"budget_s": BUDGET_S, "measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    result["machine"] = {"cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    return result


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    cluster = Cluster(
        programs=program("postgres", override=None, setting="VLA_POSTGRES_BIN"),
        data=folder / "postgres",
        sockets=folder,
        port=Port(number=port, setting="(picked)"),
        password=secrets.token_hex(16),
    )
    with running(postgres(cluster, environment=_ENVIRONMENT)):
        upgrade(cluster.url())
        yield cluster.url()


async def _fill(url: str, customers: int, rows: int) -> None:
    chance = random.Random(7)
    connection = await asyncpg.connect(url)
    try:
        ids = [uuid4() for _ in range(customers)]
        for n, customer_id in enumerate(ids):
            await _customer(connection, customer_id, n)
        await ensure_partitions(connection, [MONTH + timedelta(days=n) for n in range(DAYS)])
        for start in range(0, rows, 50_000):
            size = min(50_000, rows - start)
            records = [_row(chance, ids[chance.randrange(customers)]) for _ in range(size)]
            await connection.copy_records_to_table("inference_logs", records=records, columns=_COLUMNS)
        groups = f"SELECT customer_id, {DAY} AS day, {COUNTED} FROM inference_logs GROUP BY 1, 2"  # noqa: S608 -- names of ours
        async with connection.transaction():
            await add(connection, await connection.fetch(groups))
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


async def _customer(connection: "asyncpg.Connection", customer_id: UUID, n: int) -> None:
    tier = "enterprise" if n % 3 == 0 else "pro"
    await connection.execute(
        "INSERT INTO customer_accounts (id, company_name, email, tier, created_at) VALUES ($1, $2, $3, $4, $5)",
        customer_id,
        f"Robotics company {n}",
        f"{n}@example.com",
        tier,
        BEGIN,
    )
    if n % 10 == 0:
        await connection.execute(
            "INSERT INTO subscriptions (id, customer_id, effective_at, tier, created_by) VALUES (uuidv7(), $1, $2, $3, 'bench')",
            customer_id,
            BEGIN + timedelta(days=14, hours=12, minutes=34, seconds=n % 60),
            "pro" if tier == "enterprise" else "enterprise",
        )


def _row(chance: random.Random, customer_id: UUID) -> tuple[object, ...]:
    at = BEGIN + timedelta(milliseconds=chance.randrange(DAYS * 86_400_000))
    return (
        mint_at(at),
        at,
        customer_id,
        customer_id,
        "/v1/inference",
        "tabletop",
        1,
        "franka_panda",
        20.0,
        "success",
        True,
        b"\0",
    )


def _close(url: str) -> dict[str, Any]:
    """The command, as an operator runs it, and the most memory that it held in each quarter of its time."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": str(ROOT),
        "VLA_DATABASE_URL": url,
        "VLA_REDIS_URL": "redis://127.0.0.1:1/0",
        "VLA_KEY_PEPPER": "p" * 32,
    }
    command = [sys.executable, "-m", "control_plane.cli", "invoices", "close", "--month", f"{MONTH:%Y-%m}", "--json"]
    began, samples = time.perf_counter(), []
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            samples.append(watched.memory_info().rss)
            time.sleep(0.2)
        told = json.loads(process.stdout.read()) if process.stdout is not None else {}
    seconds = round(time.perf_counter() - began, 1)
    quarter = max(1, len(samples) // 4)
    megabytes = [round(max(samples[at : at + quarter]) / 1e6, 1) for at in range(0, 4 * quarter, quarter)]
    return {"seconds": seconds, "rss_mb_by_quarter": megabytes, "told": told}


async def _looked_at(url: str) -> dict[str, Any]:
    """What the tables say afterwards: every billable row settled once, no gap."""
    connection = await asyncpg.connect(url)
    try:
        return {
            "rated_requests": int(await connection.fetchval("SELECT sum(quantity) FROM rated_usage")),
            "invoices": await connection.fetchval("SELECT count(*) FROM invoices WHERE state = 'finalized'"),
            "last_number": await connection.fetchval("SELECT last_number FROM invoice_sequences"),
            "documents": await connection.fetchval("SELECT count(*) FROM invoice_documents"),
            "pdf_kb": round(await connection.fetchval("SELECT avg(length(content))::float8 FROM invoice_documents") / 1e3, 1),
        }
    finally:
        await connection.close()


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 1)


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
