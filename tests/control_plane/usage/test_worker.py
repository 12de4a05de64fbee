"""The worker as a real process: what it does, how it ends, and what is left when it is killed at the worst moments."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics
from control_plane.settings import load_settings
from control_plane.usage.event import encode
from control_plane.usage.recorder import Recorder
from control_plane.usage.spool import Spool
from control_plane.usage.stream import GROUP, STREAM
from control_plane.worker import Repeated, Worker, create_worker
from tests.control_plane.eventually import eventually
from tests.control_plane.usage.conftest import Lines
from tests.control_plane.usage.making import (
    add_events,
    count,
    make_event,
    make_recorder,
    row_ids,
    running,
    until_recorded,
)
from tests.control_plane.usage.proxy import proxy_to

COMMAND = (
    "from control_plane.settings import load_settings; from control_plane.worker import run_worker; run_worker(load_settings())"
)

WAITING_FOR_A_LOCK = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vla-worker' AND wait_event_type = 'Lock'"


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The settings of a worker of this test."""
    return {
        "VLA_DATABASE_URL": database_url,
        "VLA_REDIS_URL": clean_redis_url,
        "VLA_TRITON_URL": "127.0.0.1:1",
        "VLA_KEY_PEPPER": "p" * 32,
        "VLA_MODEL_REPOSITORY": str(tmp_path),
        "VLA_SPOOL_DIR": str(tmp_path / "spool"),
        "VLA_PARTITION_DAYS_AHEAD": "3",
    }


@pytest.fixture
def heir(redis: Redis, database_url: str, metrics: Metrics, log: FilteringBoundLogger) -> Recorder:
    """Another recorder, which takes over soon."""
    return make_recorder(redis, database_url, metrics, log, name="heir")


@asynccontextmanager
async def worker_process(environment: Mapping[str, str], **settings: str) -> AsyncIterator[Process]:
    """A worker as `vlaapi worker` runs it; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND), env={**os.environ, **environment, **settings}, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def said(process: Process) -> list[str]:
    """Ends the worker as a supervisor does, checks that it ended well, and returns the events it logged."""
    process.terminate()
    async with asyncio.timeout(30):
        output, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    return [json.loads(line)["event"] for line in output.splitlines()]


async def killed(process: Process) -> None:
    """As the kernel would end it."""
    process.kill()
    await process.wait()


@asynccontextmanager
async def held_up(database_url: str) -> AsyncIterator[None]:
    """Whoever wants to write a monthly roll-up waits meanwhile, in the middle of its transaction."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE usage_months IN EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def is_waiting_for_a_lock(database: asyncpg.Connection) -> bool:
    """Whether the worker stands in the middle of its transaction."""
    return await count(database, WAITING_FOR_A_LOCK) == 1


async def pending(redis: Redis) -> int:
    """Entries that were read and not acknowledged."""
    summary: dict[str, int] = await redis.xpending(STREAM, GROUP)
    return summary["pending"]


async def test_it_records_keeps_partitions_ahead_and_ends_well(
    environment: dict[str, str], redis: Redis, database: asyncpg.Connection, customer_id: UUID
) -> None:
    events = [make_event(customer_id) for _ in range(50)]
    await add_events(redis, events)
    async with worker_process(environment) as process:
        await until_recorded(redis)
        await eventually(lambda: _has_partitions(database, 5))
        assert await said(process) == ["worker started", "worker stopped"]
    assert await row_ids(database) == sorted(event.request_id for event in events)


async def _has_partitions(database: asyncpg.Connection, wanted: int) -> bool:
    return await count(database, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'inference_logs'::regclass") == wanted


async def test_it_moves_what_dead_processes_left_in_the_spool(
    environment: dict[str, str], redis: Redis, database: asyncpg.Connection, customer_id: UUID
) -> None:
    event = make_event(customer_id)
    spool = Spool(Path(environment["VLA_SPOOL_DIR"]))
    await spool.start()
    await spool.append(encode(event))
    await spool.close()
    async with worker_process(environment) as process:
        await eventually(lambda: _has_rows(database, 1))
        await said(process)
    assert await row_ids(database) == [event.request_id]


async def _has_rows(database: asyncpg.Connection, wanted: int) -> bool:
    return await count(database, "SELECT count(*) FROM inference_logs") == wanted


async def test_killed_in_the_middle_of_its_transaction_it_leaves_all_to_the_next(
    environment: dict[str, str], redis: Redis, heir: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    events = [make_event(customer_id) for _ in range(20)]
    async with worker_process(environment) as process:
        async with held_up(environment["VLA_DATABASE_URL"]):
            await add_events(redis, events)
            await eventually(partial(is_waiting_for_a_lock, database))
            await killed(process)
        assert await pending(redis) == 20
    async with running(heir):
        await until_recorded(redis)
    assert await row_ids(database) == sorted(event.request_id for event in events)
    assert await count(database, "SELECT requests FROM usage_months") == 20


async def test_killed_between_commit_and_acknowledgement_it_doubles_nothing(
    environment: dict[str, str],
    redis: Redis,
    heir: Recorder,
    database: asyncpg.Connection,
    customer_id: UUID,
) -> None:
    events = [make_event(customer_id) for _ in range(20)]
    async with (
        proxy_to(environment["VLA_REDIS_URL"]) as proxy,
        worker_process(environment, VLA_REDIS_URL=proxy.url) as process,
    ):
        async with held_up(environment["VLA_DATABASE_URL"]):
            await add_events(redis, events)
            await eventually(partial(is_waiting_for_a_lock, database))
            proxy.drops_requests = True
        await eventually(lambda: _has_rows(database, 20))
        await killed(process)
    assert await pending(redis) == 20
    async with running(heir):
        await until_recorded(redis)
    assert await row_ids(database) == sorted(event.request_id for event in events)
    assert await count(database, "SELECT requests FROM usage_months") == 20
    assert await count(database, "SELECT count(*) FROM usage_dead_letters") == 0


async def test_frozen_and_thawed_after_another_took_over_it_doubles_nothing(
    environment: dict[str, str], redis: Redis, heir: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    events = [make_event(customer_id) for _ in range(20)]
    async with worker_process(environment) as process:
        async with held_up(environment["VLA_DATABASE_URL"]):
            await add_events(redis, events)
            await eventually(partial(is_waiting_for_a_lock, database))
            process.send_signal(signal.SIGSTOP)
        async with running(heir):
            process.send_signal(signal.SIGCONT)
            await until_recorded(redis)
            await said(process)
    assert await row_ids(database) == sorted(event.request_id for event in events)
    assert await count(database, "SELECT requests FROM usage_months") == 20


async def test_told_to_stop_while_the_database_hangs_it_ends_well_and_loses_nothing(
    environment: dict[str, str], redis: Redis, heir: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    event = make_event(customer_id)
    async with worker_process(environment) as process, held_up(environment["VLA_DATABASE_URL"]):
        await add_events(redis, [event])
        await eventually(partial(is_waiting_for_a_lock, database))
        assert "worker stopped" in await said(process)
    async with running(heir):
        await until_recorded(redis)
    assert await row_ids(database) == [event.request_id]


async def test_told_to_stop_while_everything_is_away_it_ends_well(environment: dict[str, str]) -> None:
    away = {"VLA_REDIS_URL": "redis://127.0.0.1:1/0", "VLA_DATABASE_URL": "postgresql://nobody:x@127.0.0.1:1/nowhere"}
    async with worker_process(environment, **away) as process:
        assert process.stdout is not None
        while b"recorder waits" not in await process.stdout.readline():
            continue
        assert "worker stopped" in await said(process)


async def test_a_duty_that_fails_unforeseen_is_told_and_begun_again(
    environment: dict[str, str], log: FilteringBoundLogger, lines: Lines
) -> None:
    stop, runs = asyncio.Event(), 0

    async def duty(stop: asyncio.Event) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise KeyError("unforeseen")
        stop.set()

    made = create_worker(load_settings(environment))
    await Worker(duties={"odd": duty}, redis=made.redis, engine=made.engine, spool=made.spool, log=log).run(stop)
    assert runs == 2
    assert [line["duty"] for line in lines.said("duty failed")] == ["odd"]


async def test_a_store_that_is_away_is_told_once_and_again_when_it_is_back(log: FilteringBoundLogger, lines: Lines) -> None:
    stop, tries = asyncio.Event(), 0

    async def step() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ConnectionRefusedError
        stop.set()

    await Repeated(step, name="odd", log=log).run_every(0.001, stop)
    assert tries == 4
    assert [line["event"] for line in lines.entries] == ["duty waits", "duty goes on"]
