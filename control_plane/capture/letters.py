"""A customer's usage events that could not become rows (dead letters): found, and rid of content while what is billed stays.

One that cannot be read by this release but names the customer is found too, and cannot be rid of anything.
"""

import hashlib
from collections.abc import Iterator, Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.usage.event import EventError, UsageEvent, decode, encode, without_content

_LETTERS = "SELECT payload FROM usage_dead_letters WHERE position(:hyphened IN payload) > 0 OR position(:bare IN payload) > 0"
# The bare one may be there already: of a recorder that was killed before it acknowledged, and took the event again afterwards.
_CHANGED = """
WITH old AS (DELETE FROM usage_dead_letters WHERE payload_hash = :before RETURNING request_id, reason, created_at)
INSERT INTO usage_dead_letters (payload_hash, payload, request_id, reason, detail, created_at)
SELECT :hash, :payload, request_id, reason, '', created_at FROM old ON CONFLICT DO NOTHING
"""


async def letters_of(connection: AsyncConnection, customer_id: UUID) -> Sequence[bytes]:
    """Their payloads."""
    values = {"hyphened": str(customer_id).encode(), "bare": customer_id.bytes}
    return (await connection.scalars(text(_LETTERS), values)).all()


async def forget_letters(connection: AsyncConnection, customer_id: UUID, *, session: str | None, request: UUID | None) -> int:
    """Returns how many had content. The event is as it would have been under zero retention."""
    payloads = await letters_of(connection, customer_id)
    for payload, event in (found := list(_with_content(payloads, session, request))):
        bare = encode(without_content(event))
        values = {"payload": bare, "hash": hashlib.sha256(bare).digest(), "before": hashlib.sha256(payload).digest()}
        await connection.execute(text(_CHANGED), values)
    return len(found)


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
