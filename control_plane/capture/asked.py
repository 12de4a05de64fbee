"""What was asked to be deleted, written down before anything is: from then on nothing of it is stored, wherever it still waits.

A deletion that is begun again after a kill finds here since when it was asked, and where the objects were that are gone already:
its proof is about all of it. Knows no object store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.audit.record import By
from control_plane.capture.tables import captured_episodes, captured_frames, data_deletions
from control_plane.customers.tables import customer_accounts
from control_plane.db import database_errors
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.verbs import no_such
from control_plane.usage import forgotten

_BELOW = "below"  # in `proof`, until there is one: prefixes of objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Of one customer: everything, or one session, or one request."""

    customer_id: UUID
    session_id: str | None = None
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A deletion that is written down. `since`: when the same was first asked and not proved; `below`: where its objects were."""

    id: UUID
    wanted: Wanted
    at: datetime
    since: datetime
    below: tuple[str, ...]


async def ask(engine: AsyncEngine, wanted: Wanted, by: By) -> Asked:
    """Writes it down and waits until nobody is left who has not seen it. Raises ApiError not_found, DatabaseAwayError."""
    row = {
        "id": new_id(),
        "customer_id": wanted.customer_id,
        "session_id": wanted.session_id,
        "request_id": wanted.request_id,
        "asked_by": by.actor,
    }
    with database_errors():
        async with engine.begin() as connection:
            is_theirs = customer_accounts.c.id == wanted.customer_id
            if await connection.scalar(select(customer_accounts.c.id).where(is_theirs)) is None:
                raise no_such("customer", public_id("cus", wanted.customer_id))
            await connection.execute(insert(data_deletions).values(row))
        for gate in (forgotten.ROWS_GATE, forgotten.FRAMES_GATE):
            async with engine.begin() as connection:
                await forgotten.pass_gate(connection, gate)
        async with engine.begin() as connection:
            return await _noted(connection, row["id"], wanted)  # type: ignore[arg-type]  # as just made


async def _noted(connection: AsyncConnection, id_: UUID, wanted: Wanted) -> Asked:
    query = select(data_deletions.c.id, data_deletions.c.asked_at, data_deletions.c.proof).where(_open(wanted))
    tries = (await connection.execute(query)).all()
    at = next(row.asked_at for row in tries if row.id == id_)
    known = {prefix for row in tries for prefix in (row.proof or {}).get(_BELOW, ())}
    below = tuple(sorted(known | set(await _prefixes(connection, wanted, at))))
    is_it = data_deletions.c.id == id_
    await connection.execute(update(data_deletions).where(is_it).values(proof={_BELOW: below}))
    return Asked(id=id_, wanted=wanted, at=at, since=min(row.asked_at for row in tries), below=below)


def _open(wanted: Wanted) -> ColumnElement[bool]:
    """The same, asked and not proved."""
    table = data_deletions.c
    return (
        (table.customer_id == wanted.customer_id)
        & table.session_id.is_not_distinct_from(wanted.session_id)
        & table.request_id.is_not_distinct_from(wanted.request_id)
        & table.proved_at.is_(None)
    )


async def _prefixes(connection: AsyncConnection, wanted: Wanted, at: datetime) -> Sequence[str]:
    """Of the episodes that a session is in, or a request. Of everything: none, because all there is is looked at.

    One that began after it was asked is not meant: it would stay, and the deletion could never be proved.
    """
    table = captured_episodes.c
    is_it = (table.customer_id == wanted.customer_id) & (table.state != "deleted") & (table.first_at <= at)
    if wanted.request_id is not None:
        of_it = select(captured_frames.c.episode_id).where(captured_frames.c.request_id == wanted.request_id)
        is_it &= table.id.in_(of_it)
    elif wanted.session_id is not None:
        is_it &= table.session_id == wanted.session_id
    else:
        return ()
    return (await connection.scalars(select(table.prefix).where(is_it))).all()


async def settle(connection: AsyncConnection, asked: Asked, told: Mapping[str, Any], *, is_proved: bool) -> None:
    """What came of it; with a proof, earlier tries of the same are proved as well."""
    is_it = data_deletions.c.id == asked.id
    if not is_proved:
        values = {"proof": {**told, _BELOW: asked.below}}
        await connection.execute(update(data_deletions).where(is_it).values(values))
        return
    proved = {"proved_at": func.clock_timestamp()}
    await connection.execute(update(data_deletions).where(is_it).values(proof=told, **proved))
    earlier = _open(asked.wanted) & (data_deletions.c.asked_at <= asked.at)
    with_it = {"proved_with": public_id("del", asked.id)}
    await connection.execute(update(data_deletions).where(earlier).values(proof=with_it, **proved))
