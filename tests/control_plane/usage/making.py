"""Factories with valid defaults: customers, events, recorders, and the questions every usage test asks of a database."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from uuid import UUID, uuid4

import asyncpg
from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from control_plane.db import connect
from control_plane.metrics import Metrics
from control_plane.redis import REDIS_AWAY
from control_plane.usage.event import UsageEvent, UsageStatus, encode
from control_plane.usage.recorder import Pace, Recorder
from control_plane.usage.request_id import instant_of, mint, mint_at
from control_plane.usage.stream import STREAM, Consumer, add
from deploy.embedded.server import StartError
from tests.control_plane.eventually import eventually
from tests.control_plane.own_servers import OwnServer

# Quick enough for tests, with every path of production in use.
PACE = Pace(batch_rows=100, block_ms=20, linger_s=0.0, claim_idle_ms=50, claim_every_s=0.1, longest_backoff_s=0.2)


async def make_customer(
    database: asyncpg.Connection, *, tier: str = "pro", company_name: str = "Acme Robotics", customer_id: UUID | None = None
) -> UUID:
    """A customer row, as `vlaapi customers create` leaves it."""
    customer_id = customer_id or uuid4()
    await database.execute(
        "INSERT INTO customer_accounts (id, company_name, email, tier) VALUES ($1, $2, $3, $4)",
        customer_id,
        company_name,
        f"{customer_id}@example.com",
        tier,
    )
    return customer_id


def make_event(customer_id: UUID, *, at: datetime | None = None, **values: object) -> UsageEvent:
    """A successful request of that customer, now or at another instant; `values` replace fields."""
    request_id = mint() if at is None else mint_at(at)
    fields: dict[str, object] = {
        "request_id": request_id,
        "customer_id": customer_id,
        "key_id": UUID(int=7),
        "occurred_at": instant_of(request_id),
        "route": "/v1/inference",
        "policy": "tabletop",
        "policy_version": 3,
        "robot_type": "franka_panda",
        "status": UsageStatus.SUCCESS,
        "latency_ms": 24.25,
        "compute_ms": 21.5,
        "instruction": "pick up red cube",
        "action": [[0.15, -0.08, 0.22, 0.0, 0.0, 0.0, 1.0], [0.1, 0.0, 0.2, 0.0, 0.0, 0.0, 1.0]],
        "decision": "pass",
        "safety_score": 0.92,
        "limiting_rule": "B1.ee_linear_speed",
        "session_id": "ep-17",
    }
    return UsageEvent(**{**fields, **values})  # type: ignore[arg-type]  # a test names fields that exist


async def add_payloads(redis: Redis, payloads: Iterable[bytes]) -> None:
    """Puts them into the stream as the journal does."""
    pipeline = redis.pipeline(transaction=False)
    for payload in payloads:
        add(pipeline, payload)
    await pipeline.execute()


async def add_events(redis: Redis, events: Iterable[UsageEvent]) -> None:
    """Puts them into the stream as the journal does."""
    await add_payloads(redis, map(encode, events))


def make_recorder(
    redis: Redis, database_url: str, metrics: Metrics, log: FilteringBoundLogger, *, name: str = "recorder-1"
) -> Recorder:
    """A recorder at the pace of the tests."""
    return Recorder(
        consumer=Consumer(redis, name=name),
        connect=partial(connect, database_url, timeout_s=10.0, name="test"),
        metrics=metrics,
        log=log,
        pace=PACE,
    )


@asynccontextmanager
async def running(*recorders: Recorder) -> AsyncIterator[None]:
    """The recorders at work in this process; finished properly at the end."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(recorder.run(stop)) for recorder in recorders]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def until_recorded(redis: Redis) -> None:
    """Returns when nothing waits in the stream, even if Redis is away at first."""

    async def is_empty() -> bool:
        try:
            return await redis.xlen(STREAM) == 0
        except REDIS_AWAY:
            return False

    await eventually(is_empty)


async def start_again(server: OwnServer) -> None:
    """Starts a server that was killed; like a supervisor, again if its remains are still in the way."""

    async def is_up() -> bool:
        try:
            await server.start()
        except StartError:
            return False
        return True

    await eventually(is_up, every_s=0.2)


async def row_ids(database: asyncpg.Connection) -> list[UUID]:
    """The ids of all rows, with repetitions if there were any."""
    return [row["request_id"] for row in await database.fetch("SELECT request_id FROM inference_logs ORDER BY request_id")]


async def count(database: asyncpg.Connection, query: str) -> int:
    """The one number that the query answers."""
    value: int = await database.fetchval(query)
    return value


def counted(metrics: Metrics, series: str, **labels: str) -> float:
    """The value of a series; 0 when it was never touched."""
    return metrics.registry.get_sample_value(series, labels) or 0.0
