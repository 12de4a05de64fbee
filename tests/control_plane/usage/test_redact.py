"""Events that come after a deletion looked: recorded, counted and billed like any other, without what was to be forgotten."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg

from control_plane.usage.commands import retry
from control_plane.usage.dead_letters import DeadLetter, Reason, set_aside
from control_plane.usage.event import UsageEvent, decode, encode, without_content
from control_plane.usage.inference_logs import Outcome
from control_plane.usage.intake import Intake
from tests.control_plane.usage.making import make_customer, make_event

_CONTENT = "instruction IS NOT NULL OR action IS NOT NULL OR action_chunk IS NOT NULL OR raw_action IS NOT NULL"


async def ask(
    database: asyncpg.Connection, customer_id: UUID, *, session: str | None = None, request: UUID | None = None
) -> None:
    """A deletion, as `vlaapi data delete` writes it down."""
    await database.execute(
        "INSERT INTO data_deletions (id, customer_id, session_id, request_id, asked_by) VALUES ($1, $2, $3, $4, 'a test')",
        uuid4(),
        customer_id,
        session,
        request,
    )


async def take(database: asyncpg.Connection, *events: UsageEvent) -> Outcome:
    return await Intake().take(database, [encode(event) for event in events], now=datetime.now(UTC))


async def with_content(database: asyncpg.Connection) -> set[UUID]:
    return {row["request_id"] for row in await database.fetch(f"SELECT request_id FROM inference_logs WHERE {_CONTENT}")}  # noqa: S608 -- words of this module


def an_event(customer_id: UUID, session: str = "ep-1", *, at: datetime | None = None, **values: object) -> UsageEvent:
    """With everything in it that could be content."""
    return make_event(customer_id, at=at, session_id=session, raw_action=[[1.0, 2.0]], **values)


async def test_what_a_deletion_of_everything_covers_comes_without_content_and_what_came_later_with_it(
    database: asyncpg.Connection, customer_id: UUID
) -> None:
    before = an_event(customer_id)
    await ask(database, customer_id)
    after = an_event(customer_id, at=datetime.now(UTC) + timedelta(minutes=1))
    outcome = await take(database, before, after)
    assert (outcome.recorded, outcome.dead) == (2, ())
    assert await with_content(database) == {after.request_id}
    assert await database.fetchval("SELECT count(*) FROM inference_logs WHERE session_id IS NOT NULL") == 1
    assert await database.fetchval("SELECT sum(billable_requests) FROM usage_days") == 2


async def test_the_same_event_again_is_the_same_and_another_under_its_id_is_set_aside_bare(
    database: asyncpg.Connection, customer_id: UUID
) -> None:
    event = an_event(customer_id)
    await ask(database, customer_id)
    await take(database, event)
    assert (await take(database, event)).duplicates == 1
    other = an_event(customer_id, request_id=event.request_id, occurred_at=event.occurred_at, latency_ms=99.0)
    (letter,) = (await take(database, other)).dead
    assert (letter.reason, decode(letter.payload)) == (Reason.CONFLICT, without_content(other))
    assert await database.fetchval("SELECT sum(billable_requests) FROM usage_months") == 1


async def test_a_session_or_a_request_is_forgotten_and_its_neighbours_are_not(
    database: asyncpg.Connection, customer_id: UUID
) -> None:
    session, request, other = an_event(customer_id, "gone"), an_event(customer_id), an_event(customer_id)
    namesake = an_event(await make_customer(database), "gone")
    await ask(database, customer_id, session="gone")
    await ask(database, customer_id, request=request.request_id)
    await take(database, session, request, other, namesake)
    assert await with_content(database) == {other.request_id, namesake.request_id}


async def test_feedback_on_a_request_that_is_recorded_after_its_sessions_deletion_goes_with_it(
    database: asyncpg.Connection, customer_id: UUID
) -> None:
    event, other = an_event(customer_id, "gone"), an_event(customer_id)
    for request in (event.request_id, other.request_id):
        await database.execute(
            "INSERT INTO feedback (id, customer_id, key_id, request_id, outcome) VALUES ($1, $2, $1, $3, 'success')",
            uuid4(),
            customer_id,
            request,
        )
    await ask(database, customer_id, session="gone")
    await take(database, event, other)
    assert await database.fetchval("SELECT array_agg(request_id) FROM feedback") == [other.request_id]


async def test_a_letter_set_aside_or_tried_again_after_a_deletion_has_no_content(
    database: asyncpg.Connection, customer_id: UUID
) -> None:
    waiting = an_event(customer_id)
    await set_aside(database, [DeadLetter(payload=encode(waiting), reason=Reason.REJECTED, detail="")])
    await ask(database, customer_id)
    old = an_event(customer_id, at=datetime.now(UTC) - timedelta(days=500))
    await take(database, old)
    (payload,) = await database.fetchval("SELECT array_agg(payload) FROM usage_dead_letters WHERE reason = 'out_of_range'")
    assert decode(payload) == without_content(old)
    assert (await retry(database, Reason.REJECTED)).recorded == 1
    assert await with_content(database) == set()
