"""`vlaapi usage …` as an operator types it, against real stores."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from control_plane.db import DatabaseAwayError
from control_plane.usage.commands import create_commands
from control_plane.usage.dead_letters import DeadLetter, Reason, set_aside
from control_plane.usage.event import encode
from control_plane.usage.request_id import public_form
from tests.control_plane.usage.archive.conftest import take
from tests.control_plane.usage.making import make_event


async def typed(database_url: str, *words: str) -> Result:
    """What the command answers. In a thread: it owns an event loop, as in a shell."""
    return await asyncio.to_thread(CliRunner().invoke, create_commands(lambda: database_url), words)


async def test_a_month_that_agrees_ends_with_0(database_url: str) -> None:
    result = await typed(database_url, "reconcile", "--month", "2026-02")
    assert (result.exit_code, result.output) == (0, "2026-02: 0 roll-up rows differ from the log\n")


async def test_a_month_that_differs_is_explained_and_ends_with_1(
    database_url: str, database: asyncpg.Connection, customer_id: UUID
) -> None:
    today = datetime.now(UTC).date()
    await database.execute("INSERT INTO usage_days VALUES ($1, $2, 3, 2, 1, 0, 0, 0)", customer_id, today)
    result = await typed(database_url, "reconcile")
    assert result.exit_code == 1
    expected = "requests 3 but 0 in the log, billable_requests 2 but 0 in the log, refused 1 but 0 in the log"
    assert f"usage_days {today} customer {customer_id}: {expected}" in result.output


@pytest.mark.parametrize("month", ["2026-13", "november", "2026-11-01"])
async def test_what_is_not_a_month_is_refused(database_url: str, month: str) -> None:
    result = await typed(database_url, "reconcile", "--month", month)
    assert result.exit_code == 2
    assert "is not a month like 2026-11" in result.output


async def test_dead_letters_are_shown_and_tried_again(database_url: str, database: asyncpg.Connection, customer_id: UUID) -> None:
    event = make_event(customer_id)
    reason = Reason.UNKNOWN_CUSTOMER
    await set_aside(
        database,
        [DeadLetter(payload=encode(event), reason=reason, detail="there is no such customer", request_id=event.request_id)],
    )
    shown = await typed(database_url, "dead-letters")
    assert f"unknown_customer  {public_form(event.request_id)}  there is no such customer" in shown.output
    again = await typed(database_url, "retry", "--reason", "unknown_customer")
    assert again.output == "1 recorded, 0 had a row already, 0 set aside again\n"
    assert (await typed(database_url, "dead-letters")).output == ""


@pytest.mark.parametrize("words", [["reconcile"], ["dead-letters"], ["retry", "--reason", "conflict"]])
async def test_a_database_that_is_away_is_said(words: list[str]) -> None:
    result = await typed("postgresql://nobody:x@127.0.0.1:1/nowhere", *words)
    assert isinstance(result.exception, DatabaseAwayError)


async def test_differences_are_shown_per_customer_and_repaired_when_told_to(
    database_url: str, database: asyncpg.Connection, customer_id: UUID, redis: Redis, clean_redis_url: str
) -> None:
    commands = create_commands(lambda: database_url, redis_url=lambda: clean_redis_url)

    async def reconcile(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, commands, ["reconcile", *words])

    await take(database, [make_event(customer_id) for _ in range(3)])
    await database.execute("UPDATE usage_days SET requests = 5")
    shown = await reconcile()
    assert shown.exit_code == 1
    assert "requests 5 but 3 in the log\n" in shown.output
    assert f"customer {customer_id}: 0 but 3 to 3 by the roll-ups\n" in shown.output
    repaired = await reconcile("--repair")
    assert "requests 5 but 3 in the log; repaired" in repaired.output
    assert "0 but 3 to 3 by the roll-ups; changed by +3" in repaired.output
    fine = await reconcile()
    assert (fine.exit_code, fine.output.count(" 0 ")) == (0, 2)
