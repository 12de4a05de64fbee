"""What an operator is alerted about, looked at on real stores: there or away, dead letters, spikes, the certificate."""

import asyncio
import ssl
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.db import create_engine
from control_plane.metrics import Metrics
from control_plane.objects import create_objects
from control_plane.redis import create_redis
from control_plane.watching.certificate import expires_at_s
from control_plane.watching.customers import FACTOR, FLOOR, WINDOW_S, CustomerWatch, spikes
from control_plane.watching.dead import count_dead
from control_plane.watching.duties import serve_metrics
from control_plane.watching.stores import StoreWatch, look_at_disk, look_at_objects
from deploy.embedded.postgres import Archive
from tests.conftest import free_port
from tests.control_plane.eventually import eventually
from tests.control_plane.own_servers import own_postgres
from tests.control_plane.watching.conftest import Lines

_A_WEEK_OF_WINDOWS = 7 * 24 * 6


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The worker's."""
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A series as Prometheus would get it."""
    registry: CollectorRegistry = metrics.registry
    return registry.get_sample_value(name, labels)


async def test_stores_that_answer_are_up_and_measured(
    engine: AsyncEngine, redis: Redis, metrics: Metrics, tmp_path: Path
) -> None:
    await StoreWatch(engine=engine, redis=redis, metrics=metrics.watch).step()
    await look_at_disk(tmp_path, metrics.watch)
    assert value(metrics, "vla_store_up", store="postgres") == 1
    assert value(metrics, "vla_store_up", store="redis") == 1
    assert value(metrics, "vla_log_archive_stalled_seconds") == 0
    assert 0 < (value(metrics, "vla_redis_memory_ratio") or 0) < 1
    assert 0 < (value(metrics, "vla_spool_disk_used_ratio") or 0) < 1
    assert abs(time.time() - (value(metrics, "vla_worker_timestamp_seconds") or 0)) < 60


async def test_stores_that_are_away_are_down_and_the_look_goes_on(metrics: Metrics, tmp_path: Path) -> None:
    nowhere = free_port().number
    engine = create_engine(f"postgresql://nobody:x@127.0.0.1:{nowhere}/nowhere")
    redis = create_redis(f"redis://127.0.0.1:{nowhere}/0", timeout_s=1.0)
    try:
        await StoreWatch(engine=engine, redis=redis, metrics=metrics.watch).step()
        await look_at_disk(tmp_path / "none", metrics.watch)
    finally:
        await engine.dispose()
        await redis.aclose()
    assert value(metrics, "vla_store_up", store="postgres") == 0
    assert value(metrics, "vla_store_up", store="redis") == 0
    assert (value(metrics, "vla_worker_timestamp_seconds") or 0) > 0


async def test_an_archive_that_takes_nothing_is_told_with_how_long(redis: Redis, metrics: Metrics) -> None:
    async with own_postgres(Archive(command="false", every_s=60)) as server:
        engine = create_engine(server.url)
        watch = StoreWatch(engine=engine, redis=redis, metrics=metrics.watch)
        await watch.step()
        assert value(metrics, "vla_log_archive_stalled_seconds") == 0  # nothing was tried yet
        superuser = await asyncpg.connect(server.url.replace("//vlaapi:", "//postgres:"))
        await superuser.execute("SELECT pg_logical_emit_message(false, 'a', 'b'); SELECT pg_switch_wal()")
        await superuser.close()

        async def is_told() -> bool:
            await watch.step()
            return (value(metrics, "vla_log_archive_stalled_seconds") or 0) > 0

        await eventually(is_told, every_s=0.2)
        await engine.dispose()
    assert value(metrics, "vla_store_up", store="postgres") == 1


async def test_the_object_store_is_up_before_its_bucket_and_down_when_away(objects_url: str, metrics: Metrics) -> None:
    for url, is_up in ((objects_url, 1), (f"http://a:b@127.0.0.1:{free_port().number}/bucket", 0)):
        objects = create_objects(url, timeout_s=2.0)
        await look_at_objects(objects, metrics.watch)
        await objects.aclose()
        assert value(metrics, "vla_store_up", store="objects") == is_up


async def test_only_recent_dead_letters_count_but_every_usage_event(
    engine: AsyncEngine, database: asyncpg.Connection, metrics: Metrics
) -> None:
    for status, age in (("dead", "1 hour"), ("dead", "30 days"), ("waiting", "1 hour")):
        await database.execute(
            f"""INSERT INTO mails (id, dedupe_key, recipient, subject, text, status, created_at)
                VALUES ($1, $2, 'a@b.example', 's', 't', $3, now() - interval '{age}')""",  # noqa: S608 -- words of this test
            *(uuid4(), str(uuid4()), status),
        )
    await database.execute(
        """INSERT INTO usage_dead_letters (payload_hash, payload, reason, detail, created_at)
           VALUES ('\\x01', '\\x02', 'undecodable', 'd', now() - interval '90 days')"""
    )
    await count_dead(engine, metrics.watch)
    assert {kind: value(metrics, "vla_dead", kind=kind) for kind in ("mails", "webhooks", "usage_events")} == {
        "mails": 1,
        "webhooks": 0,
        "usage_events": 1,
    }


async def used(database: asyncpg.Connection, customer_id: UUID, requests: int) -> None:
    """So many requests more this month, as the recorder counts them."""
    await database.execute(
        """INSERT INTO usage_months (customer_id, month, requests, billable_requests, refused, invalid, failed, compute_us)
           VALUES ($1, date_trunc('month', now() AT TIME ZONE 'UTC')::date, $2, 0, 0, 0, 0, 0)
           ON CONFLICT (customer_id, month) DO UPDATE SET requests = usage_months.requests + excluded.requests""",
        *(customer_id, requests),
    )


async def test_a_spike_is_counted_without_a_name_and_named_in_the_log_once(
    engine: AsyncEngine,
    database: asyncpg.Connection,
    customer_id: UUID,
    metrics: Metrics,
    log: FilteringBoundLogger,
    lines: Lines,
) -> None:
    now_s = 1000.0
    watch = CustomerWatch(engine=engine, metrics=metrics.watch, log=log, clock=lambda: now_s)
    await used(database, customer_id, 5000)  # all that was before
    await watch.step()
    assert value(metrics, "vla_customers_spiking") == 0  # nothing is known yet
    now_s += WINDOW_S
    await used(database, customer_id, 2 * FLOOR)
    await watch.step()
    now_s += 60
    await watch.step()
    assert value(metrics, "vla_customers_spiking") == 1
    assert value(metrics, "vla_customer_spike_ratio") == pytest.approx(2 * FACTOR)
    assert [line["customer_id"] for line in lines.said("customer usage spike")] == [str(customer_id)]
    now_s += WINDOW_S
    await watch.step()
    assert value(metrics, "vla_customers_spiking") == 0
    assert value(metrics, "vla_customer_spike_ratio") == 0


def test_a_spike_is_measured_by_the_customers_own_week() -> None:
    steady, new = uuid4(), uuid4()
    week = {steady: 1000 * _A_WEEK_OF_WINDOWS}
    assert spikes({steady: 0}, {steady: 4999}, week) == {}
    assert spikes({steady: 0}, {steady: 5000}, week) == {steady: pytest.approx(5.0)}
    assert spikes({}, {new: FLOOR - 1}, {}) == {}
    assert spikes({}, {new: FLOOR}, {}) == {new: pytest.approx(FACTOR)}
    assert spikes(None, {new: 10**6}, {}) == {}


async def test_active_is_who_has_used_a_key_within_the_hour(
    engine: AsyncEngine, database: asyncpg.Connection, customer_id: UUID, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    watch = CustomerWatch(engine=engine, metrics=metrics.watch, log=log)
    await watch.step()
    assert value(metrics, "vla_active_customers") == 0
    for age in ("5 minutes", "10 minutes", "2 hours"):
        await key_used(database, customer_id, age)
    await watch.step()
    assert value(metrics, "vla_active_customers") == 1


async def key_used(database: asyncpg.Connection, customer_id: UUID, age: str) -> None:
    """A key that was used so long ago."""
    await database.execute(
        f"""INSERT INTO api_keys (id, customer_id, digest, start, name, last_used_at)
            VALUES ($1, $2, $3, 'vla_live_x', 'k', now() - interval '{age}')""",  # noqa: S608 -- as above
        *(uuid4(), customer_id, uuid4().bytes * 2),
    )


_CA = """
[ca]
default_ca = own
[own]
database = db
new_certs_dir = .
default_md = sha256
policy = any
rand_serial = yes
[any]
commonName = supplied
"""


@contextmanager
def shown(folder: Path, *, until: datetime) -> Iterator[int]:
    """A TLS server on this machine whose certificate, signed by nobody else, ends then. Gives its port."""
    (folder / "ca.cnf").write_text(_CA)
    (folder / "db").touch()
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem"]
    dates = ["-startdate", "20200101000000Z", "-enddate", f"{until:%Y%m%d%H%M%SZ}"]
    sign = ["-batch", "-selfsign", "-notext", "-config", "ca.cnf", "-keyfile", "key.pem"]
    for words in (
        ["openssl", "req", *key, "-subj", "/CN=api.vla.example", "-out", "req.pem"],
        ["openssl", "ca", *sign, *dates, "-in", "req.pem", "-out", "cert.pem"],
    ):
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a caller that hangs up is no news
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


async def test_a_certificates_end_is_seen_whoever_signed_it(tmp_path: Path) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=10)
    with shown(tmp_path, until=until) as port:
        found = await asyncio.to_thread(expires_at_s, f"https://127.0.0.1:{port}")
    assert found == until.timestamp()


async def test_a_certificate_that_is_over_counts_as_over_now(tmp_path: Path) -> None:
    with shown(tmp_path, until=datetime(2020, 1, 2, tzinfo=UTC)) as port:
        found = await asyncio.to_thread(expires_at_s, f"https://127.0.0.1:{port}")
    assert found is not None
    assert 0 <= time.time() - found < 60


def test_an_address_without_tls_has_none_and_nobody_there_is_an_error() -> None:
    assert expires_at_s("http://127.0.0.1:8080") is None
    with pytest.raises(OSError, match="refused"):
        expires_at_s(f"https://127.0.0.1:{free_port().number}")


async def test_a_worker_apart_answers_prometheus_until_it_stops(metrics: Metrics) -> None:
    stop, port = asyncio.Event(), free_port().number
    metrics.stream_length.set(7)
    serving = asyncio.create_task(serve_metrics(metrics, port, stop))

    def ask() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    async def answers() -> bool:
        try:
            return "vla_stream_length 7.0" in await asyncio.to_thread(ask)
        except OSError:
            return False

    await eventually(answers)
    stop.set()
    await serving
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(ask)
