"""What the database itself refuses in the log, whoever writes there."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from control_plane.usage.event import UsageEvent, encode
from control_plane.usage.inference_logs import RowsRejectedError, store
from control_plane.usage.partitions import ensure_partitions
from control_plane.usage.request_id import instant_of, mint
from control_plane.usage.rows import Row, examine
from tests.control_plane.usage.making import count, make_event

INSERT = """
INSERT INTO inference_logs (request_id, timestamp, customer_id, key_id, route, model, model_version, robot_type,
                            latency_ms, status, is_billable, payload_hash)
VALUES ($1, $2, gen_random_uuid(), gen_random_uuid(), '/v1/inference', 'tabletop', 1, 'franka_panda', 1.0, $3, $4, 'hash')
"""


async def insert(
    database: asyncpg.Connection, request_id: UUID, instant: datetime, *, status: str = "success", is_billable: bool = True
) -> None:
    """One row by hand."""
    await ensure_partitions(database, [instant.date()])
    await database.execute(INSERT, request_id, instant, status, is_billable)


def row_of(event: UsageEvent) -> Row:
    """The row of an event that was examined and found good."""
    row = examine(encode(event), now=datetime.now(UTC))
    assert isinstance(row, Row)
    return row


async def test_an_id_can_stand_only_at_its_own_instant(database: asyncpg.Connection) -> None:
    request_id = mint()
    with pytest.raises(asyncpg.CheckViolationError, match="timestamp_is_in_id"):
        await insert(database, request_id, instant_of(request_id) + timedelta(days=1))
    await insert(database, request_id, instant_of(request_id))
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(database, request_id, instant_of(request_id))


async def test_an_id_without_an_instant_cannot_stand_at_all(database: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="timestamp_is_in_id"):
        await insert(database, uuid4(), datetime.now(UTC))


@pytest.mark.parametrize("status", ["refused", "invalid", "timeout", "error"])
async def test_only_success_can_be_billed(database: asyncpg.Connection, status: str) -> None:
    request_id = mint()
    with pytest.raises(asyncpg.CheckViolationError, match="only_success_is_billed"):
        await insert(database, request_id, instant_of(request_id), status=status)


async def test_a_refused_batch_leaves_nothing_behind(database: asyncpg.Connection, customer_id: UUID) -> None:
    good, bad = row_of(make_event(customer_id)), row_of(make_event(customer_id, policy_version=2**40))
    await ensure_partitions(database, [good.occurred_at.date()])
    with pytest.raises(RowsRejectedError):
        await store(database, [good, bad])
    for table in ("inference_logs", "usage_days", "usage_months", "usage_dead_letters"):
        assert await count(database, f"SELECT count(*) FROM {table}") == 0  # noqa: S608 -- a table of this test
    outcome = await store(database, [good])
    assert (outcome.recorded, outcome.duplicates, outcome.dead) == (1, 0, ())


async def test_a_missing_partition_is_not_the_rows_fault(database: asyncpg.Connection, customer_id: UUID) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="no partition"):
        await store(database, [row_of(make_event(customer_id))])
