"""A whole service with customers, money and traffic, watched by its own Prometheus and by the product's own rules.

The service is `vlaapi up` with a state folder of its own. Two things are not traffic: the rows of a second policy version (one is
shipped), and the GPUs (`gpu_metrics.txt`, served as the exporter would).
"""

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx

from benchmarks.stack import Stack
from control_plane.db import create_engine
from control_plane.revenue.costs import Costs, keep_costs
from control_plane.revenue.open_month import refresh
from control_plane.usage.request_id import mint_at
from tests.conftest import ROOT
from tests.control_plane.eventually import eventually
from tests.control_plane.invoices.making import a_customer, change_plan, close, use

PASSWORD = "a-password-of-these-tests"
_LAST_TO_COME = (
    "vla_success_rate",
    "vla_stream_length",
    "vla_store_up",
    "vla_dead",
    "vla_customers_spiking",
    "vla_batch_size",
    "slo:sli_error:ratio_rate30d",
    "DCGM_FI_DEV_GPU_TEMP",
)
GPU_METRICS = Path(__file__).with_name("gpu_metrics.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Where to ask, and the instant up to which there is something to see."""

    prometheus: str
    reader: str
    until: datetime


def watch_gpus(stack: Stack, exporter: str) -> None:
    """Tells the running Prometheus of one more target; it follows changes of such files by itself."""
    targets = stack.state_dir / "prometheus" / "targets" / "gpu.yml"
    aside = targets.with_suffix(".new")
    aside.write_text(json.dumps([{"targets": [exporter]}]))
    aside.rename(targets)


@contextmanager
def gpu_exporter() -> Iterator[str]:
    """Serves `gpu_metrics.txt`; gives host:port."""

    class Exporter(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(GPU_METRICS.read_bytes())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def database_of(stack: Stack) -> str:
    """The service's own address of its PostgreSQL."""
    lines = (stack.state_dir / "env").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("VLA_DATABASE_URL="))


def let_the_reader_in(stack: Stack) -> str:
    """Runs the operator's command as the cluster's superuser; gives the reader's address."""
    parts = urlsplit(database_of(stack))
    argv = [sys.executable, "-m", "vlaapi", "dashboards", "login", "--as", "postgres"]
    environment = {**stack.environment, "PGPASSWORD": parts.password or ""}
    subprocess.run(argv, cwd=ROOT, env=environment, input=f"{PASSWORD}\n", text=True, check=True)
    return f"postgresql://grafana:{PASSWORD}@{parts.hostname}:{parts.port}{parts.path}"


async def do_business(database_url: str) -> None:
    """Three months of customers, the first two closed; and a few rows of a second version of the policy."""
    now = datetime.now(UTC)
    running = now.date().replace(day=1)
    last = (running - timedelta(days=1)).replace(day=1)
    first = (last - timedelta(days=1)).replace(day=1)
    began = datetime(first.year, first.month, 1, tzinfo=UTC)
    database = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    engine = create_engine(database_url, timeout_s=60.0)
    acme = await a_customer(database, tier="enterprise", created_at=began, company_name="Acme Robotics Inc.")
    tech = await a_customer(database, tier="pro", created_at=began, company_name="TechCorp LLC")
    gone = await a_customer(database, tier="pro", created_at=began, company_name="Gone & <Sons>")
    auto = await a_customer(database, tier="free", created_at=began + timedelta(days=40), company_name="AutoMate Inc")
    await change_plan(database, tech, datetime(last.year, last.month, 15, tzinfo=UTC), "enterprise")
    await change_plan(database, gone, datetime(last.year, last.month, 10, tzinfo=UTC), "pro", is_active=False)
    for customer, month, requests in ((acme, first, 30_000), (acme, last, 36_450), (tech, last, 8_200), (gone, first, 5_100)):
        await use(database, customer, month, requests)
    await close(engine, first)
    await close(engine, last)
    for customer, requests in ((acme, 41_200), (tech, 9_900), (auto, 8_600)):
        await use(database, customer, running, requests)
    for minutes in range(20):
        await _row_of_version_2(database, acme, now - timedelta(minutes=minutes))
    async with engine.begin() as connection:  # as the worker does, a minute after it started
        await keep_costs(connection, Costs(currency="USD", gpu_cents_per_h=Decimal(300), server_cents_per_h=Decimal(50)))
    await refresh(engine)
    await engine.dispose()
    await database.close()


async def _row_of_version_2(database: "asyncpg.Connection", customer: object, at: datetime) -> None:
    await database.execute(
        """
        INSERT INTO inference_logs (
            request_id, timestamp, customer_id, key_id, route, model, model_version, robot_type, decision, limiting_rule,
            safety_score, latency_ms, compute_ms, status, is_billable, payload_hash
        ) VALUES ($1, uuid_extract_timestamp($1), $2, $2, '/v1/inference', 'tabletop', 2, 'franka_panda', 'pass',
                  'B1.ee_linear_speed', 0.9, 22, 11, 'success', true, '\\x00')
        """,
        mint_at(at),
        customer,
    )


async def drive(stack: Stack) -> None:
    """Some requests that are answered, and some that end in other ways."""
    picture = stack.example.read_bytes()
    async with httpx.AsyncClient(base_url=f"http://{stack.host}:{stack.port}", timeout=60) as client:
        for key in [stack.key] * 12 + [stack.status()["demo_key"]] * 4:
            answer = await _ask(client, key, picture, {"instruction": "pick up red cube"})
            assert answer.status_code == 200, answer.text
        assert (await _ask(client, stack.key, b"no picture", {"instruction": "pick up red cube"})).status_code == 422
        assert (await _ask(client, "vla_live_nobody", picture, {"instruction": "pick up red cube"})).status_code == 401
        wild = {"actions": [[5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 1.0]], "model": "tabletop"}
        checked = await client.post("/v1/safety/check", json=wild, headers={"Authorization": f"Bearer {stack.key}"})
        assert checked.json()["safety"]["decision"] != "pass", checked.text


async def _ask(client: httpx.AsyncClient, key: str, picture: bytes, fields: dict[str, str]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return await client.post("/v1/inference", headers=headers, files={"image": ("a.png", picture)}, data=fields)


async def watch(stack: Stack, reader: str) -> Watched:
    """Drives traffic until there is something to see in Prometheus and in PostgreSQL."""
    prometheus = f"http://127.0.0.1:{stack.environment['VLA_PROMETHEUS_PORT']}"
    await do_business(database_of(stack))
    async with httpx.AsyncClient(base_url=prometheus, timeout=20) as client:

        async def says(expr: str) -> bool:
            try:
                found = (await client.get("/api/v1/query", params={"query": expr})).json()
            except (httpx.TransportError, ValueError):  # it is only starting
                return False
            return bool(found["data"]["result"])

        await drive(stack)
        await eventually(lambda: says("count(vla_requests_total) and on () count(nv_inference_count)"), every_s=0.3)
        await drive(stack)
        for expr in _LAST_TO_COME:
            await eventually(partial(says, expr), every_s=0.3)
    database = await asyncpg.connect(reader)
    await eventually(lambda: database.fetchval("SELECT count(*) >= 30 FROM requests"), every_s=0.3)
    await database.close()
    return Watched(prometheus=prometheus, reader=reader, until=datetime.fromtimestamp(time.time(), UTC))
