"""The recorder against a real stream and a real database: every event exactly once, whatever is in the stream or goes away."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import msgspec
import numpy as np
import pytest
from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics
from control_plane.migrations import upgrade
from control_plane.redis import create_redis
from control_plane.usage.dead_letters import Reason
from control_plane.usage.event import UsageEvent, UsageStatus, encode
from control_plane.usage.recorder import Recorder
from control_plane.usage.stream import GROUP, STREAM, Consumer
from tests.conftest import outside
from tests.control_plane.eventually import eventually
from tests.control_plane.own_servers import OwnServer, own_postgres, own_valkey
from tests.control_plane.usage.conftest import Lines
from tests.control_plane.usage.making import (
    add_events,
    add_payloads,
    count,
    counted,
    make_customer,
    make_event,
    make_recorder,
    row_ids,
    running,
    start_again,
    until_recorded,
)

STATE = """
SELECT (SELECT json_agg(l ORDER BY request_id) FROM inference_logs l)::text,
       (SELECT json_agg(d ORDER BY customer_id, day) FROM usage_days d)::text,
       (SELECT json_agg(m ORDER BY customer_id, month) FROM usage_months m)::text
"""


@pytest.fixture
def recorder(redis: Redis, database_url: str, metrics: Metrics, log: FilteringBoundLogger) -> Recorder:
    """One recorder of this test's own database."""
    return make_recorder(redis, database_url, metrics, log)


async def test_an_event_becomes_a_row_that_reads_like_the_answer(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    event = make_event(customer_id)
    await add_events(redis, [event])
    async with running(recorder):
        await until_recorded(redis)
    row = await database.fetchrow("SELECT * FROM inference_logs")
    assert row is not None
    assert row["request_id"] == event.request_id
    assert row["timestamp"] == event.occurred_at
    assert row["customer_id"] == customer_id
    assert row["action"] == "[0.15, -0.08, 0.22, 0, 0, 0, 1]"
    assert len(row["action_chunk"]) == 2
    assert (row["model"], row["model_version"], row["robot_type"]) == ("tabletop", 3, "franka_panda")
    assert (row["instruction"], row["safety_score"], row["latency_ms"]) == ("pick up red cube", 0.92, 24.25)
    assert (row["status"], row["is_billable"]) == ("success", True)


async def test_a_raw_action_with_numbers_that_are_none_is_stored_as_it_was(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    raw = [[0.5, float("nan"), float("inf")], [0.25, 0.0, -1e30]]
    refused = make_event(customer_id, status=UsageStatus.REFUSED, action=None, raw_action=raw, decision="reject")
    await add_events(redis, [refused, make_event(customer_id)])
    async with running(recorder):
        await until_recorded(redis)
    rows = await database.fetch("SELECT raw_action, action FROM inference_logs ORDER BY status")
    assert np.array_equal(np.array(rows[0]["raw_action"], np.float32), np.array(raw, np.float32), equal_nan=True)
    assert (rows[0]["action"], rows[1]["raw_action"]) == (None, None)


async def test_a_dry_run_is_a_row_that_is_counted_and_not_billed(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    await add_events(redis, [make_event(customer_id, status=UsageStatus.CHECKED, action=None)])
    async with running(recorder):
        await until_recorded(redis)
    row = await database.fetchrow("SELECT status, is_billable FROM inference_logs")
    assert tuple(row) == ("checked", False)
    counts = await database.fetchrow("SELECT requests, billable_requests, refused, invalid, failed FROM usage_months")
    assert tuple(counts) == (1, 0, 0, 0, 0)


async def test_every_outcome_is_counted_and_only_success_is_billed(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    outcomes = (
        [UsageStatus.SUCCESS] * 3 + [UsageStatus.REFUSED] * 2 + [UsageStatus.INVALID, UsageStatus.TIMEOUT, UsageStatus.ERROR]
    )
    await add_events(redis, [make_event(customer_id, status=status, compute_ms=0.5) for status in outcomes])
    async with running(recorder):
        await until_recorded(redis)
    for table in ("usage_days", "usage_months"):
        row = await database.fetchrow(f"SELECT * FROM {table}")  # noqa: S608 -- a table of this test
        assert row is not None
        counts = [row[name] for name in ("requests", "billable_requests", "refused", "invalid", "failed", "compute_us")]
        assert counts == [8, 3, 2, 1, 2, 4000]


async def test_an_event_that_comes_twice_is_one_row(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID, metrics: Metrics
) -> None:
    event = make_event(customer_id)
    await add_events(redis, [event, event])
    async with running(recorder):
        await until_recorded(redis)
        await add_events(redis, [make_event(customer_id), event])
        await until_recorded(redis)
    assert len(await row_ids(database)) == 2
    assert await count(database, "SELECT requests FROM usage_days") == 2
    assert counted(metrics, "vla_recorder_rows_total", result="recorded") == 2
    assert counted(metrics, "vla_recorder_rows_total", result="duplicate") == 2
    assert await count(database, "SELECT count(*) FROM usage_dead_letters") == 0


async def test_a_whole_stream_replayed_changes_nothing(redis: Redis, recorder: Recorder, database: asyncpg.Connection) -> None:
    customers = [await make_customer(database) for _ in range(5)]
    now = datetime.now(UTC)
    events = [make_event(customers[n % 5], at=now - timedelta(hours=9 * (n % 11))) for n in range(350)]
    async with running(recorder):
        await add_events(redis, events)
        await until_recorded(redis)
        before = await database.fetchrow(STATE)
        await add_events(redis, events)
        await until_recorded(redis)
    assert len(await row_ids(database)) == 350
    assert await database.fetchrow(STATE) == before


async def test_the_same_id_with_another_payload_is_set_aside_and_told(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID, metrics: Metrics
) -> None:
    event = make_event(customer_id)
    in_one_batch = msgspec.structs.replace(event, latency_ms=1.0)
    later = msgspec.structs.replace(event, latency_ms=2.0)
    async with running(recorder):
        await add_events(redis, [event, in_one_batch])
        await until_recorded(redis)
        await add_events(redis, [later, make_event(customer_id), later])
        await until_recorded(redis)
    kept = await database.fetchval("SELECT latency_ms FROM inference_logs WHERE request_id = $1", event.request_id)
    assert kept == event.latency_ms
    assert await count(database, "SELECT requests FROM usage_months") == 2
    letters = await database.fetch("SELECT payload, reason, request_id FROM usage_dead_letters")
    assert {letter["payload"] for letter in letters} == {encode(in_one_batch), encode(later)}
    assert {(letter["reason"], letter["request_id"]) for letter in letters} == {("conflict", event.request_id)}
    assert counted(metrics, "vla_dead_letters_total", reason="conflict") >= 2


POISON: dict[str, tuple[Callable[[UUID], bytes], Reason]] = {
    "garbage": (lambda _: b"\x00garbage", Reason.UNDECODABLE),
    "empty": (lambda _: b"", Reason.UNDECODABLE),
    "not UTF-8": (lambda c: encode(make_event(c)).replace(b"tabletop", b"table\xffop"), Reason.UNDECODABLE),
    "status with a NUL": (lambda c: encode(make_event(c)).replace(b"success", b"suc\0ess"), Reason.UNDECODABLE),
    "newer schema": (lambda c: encode(make_event(c, schema=2)), Reason.UNKNOWN_SCHEMA),
    "unknown customer": (lambda _: encode(make_event(uuid4())), Reason.UNKNOWN_CUSTOMER),
    "another instant": (lambda c: encode(make_event(c, occurred_at=datetime(2026, 1, 1, tzinfo=UTC))), Reason.WRONG_INSTANT),
    "next week": (lambda c: encode(make_event(c, at=datetime.now(UTC) + timedelta(days=7))), Reason.OUT_OF_RANGE),
    "years ago": (lambda c: encode(make_event(c, at=datetime(2020, 1, 1, tzinfo=UTC))), Reason.OUT_OF_RANGE),
    "version beyond integer": (lambda c: encode(make_event(c, policy_version=2**40)), Reason.REJECTED),
    "ragged action": (lambda c: encode(make_event(c, action=[[0.0, 1.0], [0.0]])), Reason.REJECTED),
    "action beyond float32": (lambda c: encode(make_event(c, action=[[1e300]])), Reason.REJECTED),
    "compute time beyond bigint": (lambda c: encode(make_event(c, compute_ms=1e300)), Reason.REJECTED),
}


@pytest.mark.parametrize("kind", POISON)
async def test_a_poison_event_is_set_aside_and_the_others_are_recorded(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID, metrics: Metrics, kind: str
) -> None:
    make_poison, reason = POISON[kind]
    poison = make_poison(customer_id)
    good = [make_event(customer_id) for _ in range(40)]
    await add_payloads(redis, [*map(encode, good[:13]), poison, *map(encode, good[13:])])
    async with running(recorder):
        await until_recorded(redis)
    assert await row_ids(database) == sorted(event.request_id for event in good)
    assert await count(database, "SELECT requests FROM usage_days") == 40
    letter = await database.fetchrow("SELECT payload, reason FROM usage_dead_letters")
    assert letter is not None
    assert (letter["payload"], letter["reason"]) == (poison, reason.value)
    assert counted(metrics, "vla_dead_letters_total", reason=reason.value) == 1


async def test_a_batch_of_nothing_but_poison_is_set_aside(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    await add_events(redis, [make_event(customer_id, policy_version=2**40) for _ in range(20)])
    async with running(recorder):
        await until_recorded(redis)
    assert await count(database, "SELECT count(*) FROM usage_dead_letters") == 20


async def test_an_entry_somebody_added_by_hand_is_kept_too(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection
) -> None:
    await redis.xadd(STREAM, {"note": "by hand"})
    async with running(recorder):
        await until_recorded(redis)
    assert await database.fetchval("SELECT payload FROM usage_dead_letters") == b"{b'note': b'by hand'}"


async def test_an_event_of_a_detached_day_is_set_aside(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=100)
    async with running(recorder):
        await add_events(redis, [make_event(customer_id, at=long_ago)])
        await until_recorded(redis)
        await database.execute(f"ALTER TABLE inference_logs DETACH PARTITION inference_logs_{long_ago:%Y_%m_%d}")
        late = make_event(customer_id, at=long_ago)
        await add_events(redis, [late, make_event(customer_id)])
        await until_recorded(redis)
    letter = await database.fetchrow("SELECT request_id, reason FROM usage_dead_letters")
    assert letter is not None
    assert (letter["request_id"], letter["reason"]) == (late.request_id, Reason.NO_PARTITION)
    assert len(await row_ids(database)) == 1


async def test_a_partition_that_was_dropped_is_made_again(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    async with running(recorder):
        await add_events(redis, [make_event(customer_id)])
        await until_recorded(redis)
        await database.execute(f"DROP TABLE inference_logs_{datetime.now(UTC):%Y_%m_%d}")
        again = make_event(customer_id)
        await add_events(redis, [again])
        await until_recorded(redis)
    assert again.request_id in await row_ids(database)
    assert await count(database, "SELECT count(*) FROM usage_dead_letters") == 0


async def test_two_recorders_share_five_thousand_events(
    redis: Redis, database: asyncpg.Connection, database_url: str, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    customers = [await make_customer(database) for _ in range(7)]
    now = datetime.now(UTC)
    events = [make_event(customers[n % 7], at=now - timedelta(hours=n % 60)) for n in range(5000)]
    twice = events + events[::3]  # some come again, in another order and most likely to the other recorder
    await add_events(redis, twice)
    async with running(*(make_recorder(redis, database_url, metrics, log, name=f"recorder-{n}") for n in (1, 2))):
        await until_recorded(redis)
    assert await row_ids(database) == sorted(event.request_id for event in events)
    for table in ("usage_days", "usage_months"):
        assert await count(database, f"SELECT sum(requests)::bigint FROM {table}") == 5000  # noqa: S608 -- a table of this test
    assert await count(database, "SELECT count(*) FROM usage_dead_letters") == 0


async def test_what_a_dead_recorder_had_read_is_recorded_by_another(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    events = [make_event(customer_id) for _ in range(30)]
    await add_events(redis, events)
    dead = Consumer(redis, name="dead")
    await dead.join()
    assert len(await dead.read_new(count=20, block_ms=1)) == 20
    async with running(recorder):
        await until_recorded(redis)
    assert await row_ids(database) == sorted(event.request_id for event in events)


async def test_entries_the_group_has_forgotten_are_read_again(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    event = make_event(customer_id)
    await add_events(redis, [event])
    hasty = Consumer(redis, name="hasty")
    await hasty.join()
    await hasty.read_new(count=1, block_ms=1)
    await redis.xgroup_delconsumer(STREAM, GROUP, "hasty")  # by hand: drops what was pending from the group
    async with running(recorder):
        await until_recorded(redis)
    assert await row_ids(database) == [event.request_id]


async def test_a_flushed_redis_is_joined_again(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    async with running(recorder):
        await add_events(redis, [make_event(customer_id)])
        await until_recorded(redis)
        await redis.flushall()
        await add_events(redis, [make_event(customer_id)])
        await until_recorded(redis)
    assert len(await row_ids(database)) == 2


async def test_events_wait_in_the_stream_while_postgres_is_killed_and_started_again(
    redis: Redis, metrics: Metrics, log: FilteringBoundLogger, lines: Lines
) -> None:
    async with own_postgres() as server:
        outside(lambda: upgrade(server.url))
        database = await asyncpg.connect(server.url)
        customer_id = await make_customer(database)
        events = [make_event(customer_id) for _ in range(3000)]
        async with running(make_recorder(redis, server.url, metrics, log)):
            await add_events(redis, events)
            await eventually(lambda: _some_rows(database))
            await _killed_and_back(server, lines)
            await add_events(redis, [make_event(customer_id)])
            await until_recorded(redis)
        database = await asyncpg.connect(server.url)
        ids = await row_ids(database)
        assert len(ids) == 3001
        assert {event.request_id for event in events} < set(ids)
        assert await count(database, "SELECT requests FROM usage_months") == 3001
        await database.close()


async def _some_rows(database: asyncpg.Connection) -> bool:
    return await count(database, "SELECT count(*) FROM inference_logs") > 0


async def _killed_and_back(server: OwnServer, lines: Lines) -> None:
    async def was_noticed() -> bool:
        return bool(lines.said("recorder waits"))

    server.kill()
    await eventually(was_noticed)
    await start_again(server)


async def test_a_redis_that_is_killed_while_recording_loses_and_doubles_nothing(
    database: asyncpg.Connection, database_url: str, customer_id: UUID, metrics: Metrics, log: FilteringBoundLogger
) -> None:
    async with own_valkey() as server:
        redis = create_redis(server.url, timeout_s=5.0)
        events = [make_event(customer_id) for _ in range(2000)]
        await add_events(redis, events)
        async with running(make_recorder(redis, database_url, metrics, log)):
            await eventually(lambda: _some_rows(database))
            server.kill()
            await server.start()
            await until_recorded(redis)
        await redis.aclose()
    assert await row_ids(database) == sorted(event.request_id for event in events)
    assert await count(database, "SELECT requests FROM usage_months") == 2000


async def test_ids_are_billed_in_the_month_they_carry(
    redis: Redis, recorder: Recorder, database: asyncpg.Connection, customer_id: UUID
) -> None:
    turn = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last, first = turn - timedelta(milliseconds=1), turn
    events: list[UsageEvent] = [make_event(customer_id, at=instant) for instant in (last, first, first)]
    await add_events(redis, events)
    async with running(recorder):
        await until_recorded(redis)
    months = await database.fetch("SELECT month, requests FROM usage_months ORDER BY month")
    assert [(row["month"], row["requests"]) for row in months] == [(last.date().replace(day=1), 1), (first.date(), 2)]
    days = await database.fetch("SELECT day, requests FROM usage_days ORDER BY day")
    assert [(row["day"], row["requests"]) for row in days] == [(last.date(), 1), (first.date(), 2)]
