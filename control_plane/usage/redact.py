"""Events that a deletion covers become rows and letters without content, whenever they come: counted and billed all the same.

An event may wait long after a deletion has looked: in a spool on another machine, among dead letters, in a Redis that was away.
Its hash stays that of what was sent, so that the same event again is still the same. Called for each batch, in its transaction.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from control_plane.usage.dead_letters import DeadLetter
from control_plane.usage.event import EventError, decode, encode, without_content
from control_plane.usage.forgotten import ASKED, ROWS_GATE, Forgotten
from control_plane.usage.request_id import RequestIdError, instant_of
from control_plane.usage.rows import COLUMNS, Row

_CUSTOMER, _SESSION = COLUMNS.index("customer_id"), COLUMNS.index("session_id")
_CONTENT = frozenset(map(COLUMNS.index, ("instruction", "action", "action_chunk", "raw_action", "session_id")))
_ASKED = ASKED.format("$1::uuid[]", "$2::uuid[]", "$3::timestamptz")
_FEEDBACK = "DELETE FROM feedback WHERE customer_id = ANY ($1::uuid[]) AND request_id = ANY ($2::uuid[]) AND created_at <= $3"


async def redacted(
    connection: "asyncpg.Connection", rows: Sequence[Row], dead: Sequence[DeadLetter]
) -> tuple[Sequence[Row], Sequence[DeadLetter]]:
    """The same without what was asked to be forgotten. What was said of such a request before that goes too."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", ROWS_GATE)
    parties = {id(row): _party_of_row(row) for row in rows} | {id(letter): _party_of_letter(letter) for letter in dead}
    asked = await _asked(connection, [party for party in parties.values() if party is not None])
    if not asked:
        return rows, dead
    covered = {one: party for one, party in parties.items() if party is not None and any(a.covers(*party) for a in asked)}
    if not covered:
        return rows, dead
    ids = [[party[place] for party in covered.values()] for place in (0, 1)]
    await connection.execute(_FEEDBACK, *ids, max(one.asked_at for one in asked))
    return (
        [_bare_row(row) if id(row) in covered else row for row in rows],
        [replace(letter, payload=_bare(letter.payload), detail="") if id(letter) in covered else letter for letter in dead],
    )


_Party = tuple[UUID, UUID, str | None, datetime]  # whose, which request, of which session, when


def _party_of_row(row: Row) -> _Party:
    customer_id, session_id = row.values[_CUSTOMER], row.values[_SESSION]
    return customer_id, row.request_id, session_id, row.occurred_at  # type: ignore[return-value]  # as `examine` made them


def _party_of_letter(letter: DeadLetter) -> _Party | None:
    """None: nobody can read it. One without an instant is as old as can be: covered by whatever was asked."""
    try:
        event = decode(letter.payload)
    except EventError:
        return None
    try:
        at = instant_of(event.request_id)
    except RequestIdError:
        at = datetime.min.replace(tzinfo=UTC)
    return event.customer_id, event.request_id, event.session_id, at


async def _asked(connection: "asyncpg.Connection", parties: Sequence[_Party]) -> Sequence[Forgotten]:
    if not parties:
        return ()
    customers, requests = list({party[0] for party in parties}), [party[1] for party in parties]
    found = await connection.fetch(_ASKED, customers, requests, min(party[3] for party in parties))
    return [Forgotten(**row) for row in found]


def _bare_row(row: Row) -> Row:
    values = tuple(None if place in _CONTENT else value for place, value in enumerate(row.values))
    return replace(row, values=values, payload=_bare(row.payload))


def _bare(payload: bytes) -> bytes:
    return encode(without_content(decode(payload)))
