"""Dead letters: kept once, shown, and recorded when their cause is gone."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from control_plane.usage.commands import retry
from control_plane.usage.dead_letters import DeadLetter, Reason, newest, set_aside
from control_plane.usage.event import UsageEvent, encode
from control_plane.usage.intake import Intake
from tests.control_plane.usage.making import count, make_customer, make_event, row_ids

LETTERS = "SELECT count(*) FROM usage_dead_letters"


def letter(event: UsageEvent, *, detail: str = "there is no such customer") -> DeadLetter:
    """An event of a customer that is not there."""
    return DeadLetter(payload=encode(event), reason=Reason.UNKNOWN_CUSTOMER, detail=detail, request_id=event.request_id)


async def test_the_same_payload_is_one_letter(database: asyncpg.Connection) -> None:
    event = make_event(uuid4())
    await set_aside(database, [letter(event), letter(event)])
    await set_aside(database, [letter(event)])
    assert await count(database, LETTERS) == 1


@pytest.mark.parametrize("detail", ["a\0b", "\ud800", "x" * 10_000])
async def test_any_detail_can_be_kept(database: asyncpg.Connection, detail: str) -> None:
    await set_aside(database, [letter(make_event(uuid4()), detail=detail)])
    (kept,) = await newest(database, limit=9)
    assert len(kept.detail) <= 500


async def test_the_newest_letters_come_first(database: asyncpg.Connection) -> None:
    events = [make_event(uuid4()) for _ in range(3)]
    for event in events:
        await set_aside(database, [letter(event)])
    assert [kept.request_id for kept in await newest(database, limit=2)] == [events[2].request_id, events[1].request_id]


async def test_letters_are_recorded_once_their_cause_is_gone(database: asyncpg.Connection) -> None:
    restored, unknown, recorded = make_event(UUID(int=1)), make_event(UUID(int=2)), make_event(UUID(int=1))
    await set_aside(database, [letter(restored), letter(unknown), letter(recorded)])
    await make_customer(database, customer_id=UUID(int=1))
    await Intake().take(database, [encode(recorded)], now=datetime.now(UTC))
    outcome = await retry(database, Reason.UNKNOWN_CUSTOMER)
    assert (outcome.recorded, outcome.duplicates, len(outcome.dead)) == (1, 1, 1)
    assert await row_ids(database) == sorted([restored.request_id, recorded.request_id])
    assert [kept.request_id for kept in await newest(database, limit=9)] == [unknown.request_id]
    assert await count(database, "SELECT requests FROM usage_months") == 2


async def test_a_letter_the_database_rejects_spoils_no_other(database: asyncpg.Connection, customer_id: UUID) -> None:
    events = [make_event(customer_id, policy_version=version) for version in (1, 2**40, 2, 3)]
    await set_aside(database, [letter(event) for event in events])
    outcome = await retry(database, Reason.UNKNOWN_CUSTOMER)
    assert (outcome.recorded, outcome.duplicates) == (3, 0)
    assert [kept.reason for kept in await newest(database, limit=9)] == [Reason.REJECTED]


async def test_only_letters_with_that_reason_are_tried_again(database: asyncpg.Connection) -> None:
    await set_aside(database, [letter(make_event(uuid4()))])
    assert (await retry(database, Reason.CONFLICT)).dead == ()
    assert await count(database, LETTERS) == 1
