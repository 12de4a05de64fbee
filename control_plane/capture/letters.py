"""A customer's usage events that could not become rows (dead letters): found, and rid of content while what is billed stays.

One that cannot be read by this release but names the customer is found too, and cannot be rid of anything. A step looks at some
letters, well below the statement timeout.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.capture.asked import Wanted
from control_plane.db import database_errors
from control_plane.usage.event import EventError, UsageEvent, decode, encode, without_content

AT_ONCE = 1000

# Some letters are looked at, whosever they are, so that a step takes no longer when few of many are this customer's.
_PAGE = """
SELECT payload_hash, CASE WHEN position(:hyphened IN payload) > 0 OR position(:bare IN payload) > 0 THEN payload END AS payload
FROM usage_dead_letters WHERE payload_hash > :after ORDER BY payload_hash LIMIT :some
"""
# The bare one may be there already: of a recorder that was killed before it acknowledged, and took the event again afterwards.
_CHANGED = """
WITH old AS (DELETE FROM usage_dead_letters WHERE payload_hash = :before RETURNING request_id, reason, created_at)
INSERT INTO usage_dead_letters (payload_hash, payload, request_id, reason, detail, created_at)
SELECT :hash, :payload, request_id, reason, '', created_at FROM old ON CONFLICT DO NOTHING
"""


async def letters_of(connection: AsyncConnection, customer_id: UUID) -> AsyncIterator[list[bytes]]:
    """Their payloads, page by page."""
    after: bytes | None = b""
    while after is not None:
        payloads, after = await _page(connection, customer_id, after)
        yield payloads


async def _page(connection: AsyncConnection, customer_id: UUID, after: bytes) -> tuple[list[bytes], bytes | None]:
    """The customer's among the next letters, and after which the following ones come; None: these were the last."""
    values = {"hyphened": str(customer_id).encode(), "bare": customer_id.bytes, "after": after, "some": AT_ONCE}
    rows = (await connection.execute(text(_PAGE), values)).all()
    last = rows[-1].payload_hash if len(rows) == AT_ONCE else None
    return [row.payload for row in rows if row.payload is not None], last


async def forget_letters(engine: AsyncEngine, wanted: Wanted, done: Counter[str]) -> None:
    """Counts in `done` those that had content. The event is as it would have been under zero retention."""
    after: bytes | None = b""
    while after is not None:
        with database_errors():
            async with engine.begin() as connection:
                payloads, after = await _page(connection, wanted.customer_id, after)
                if found := list(_with_content(payloads, wanted.session_id, wanted.request_id)):
                    await connection.execute(text(_CHANGED), [_bare(payload, event) for payload, event in found])
        done["log_rows"] += len(found)


def _bare(payload: bytes, event: UsageEvent) -> dict[str, bytes]:
    bare = encode(without_content(event))
    return {"payload": bare, "hash": hashlib.sha256(bare).digest(), "before": hashlib.sha256(payload).digest()}


def _with_content(payloads: Sequence[bytes], session: str | None, request: UUID | None) -> Iterator[tuple[bytes, UsageEvent]]:
    for payload in payloads:
        event = event_in(payload)
        if event is None or request not in {None, event.request_id} or session not in {None, event.session_id}:
            continue
        if any(held is not None for held in (event.instruction, event.action, event.raw_action, event.session_id)):
            yield payload, event


def event_in(payload: bytes) -> UsageEvent | None:
    """None: this release cannot read it."""
    try:
        return decode(payload)
    except EventError:
        return None
