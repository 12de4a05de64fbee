"""Deletes what is held of a customer's content: everything, one session, or one request; then looks for what is left.

Counters, statuses and amounts stay: invoices rest on them. Gone are all captured objects, feedback, and in the log instruction,
action and session. What still waits in a worker's files is held against the deletion before it is stored. Archived months keep
instruction and action in their files, which the proof says: by the hashes of these files invoices are audited.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy import and_, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.audit.record import By, Change, record
from control_plane.capture.erase import erase_episode, erase_frame
from control_plane.capture.letters import event_in, forget_letters, letters_of
from control_plane.capture.part import ROOT, org_of
from control_plane.capture.tables import captured_episodes, captured_frames, data_deletions, feedback
from control_plane.customers.tables import customer_accounts
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.verbs import no_such
from control_plane.objects import ObjectStore
from control_plane.redis import REDIS_AWAY
from control_plane.usage import forgotten
from control_plane.usage.request_id import instant_of, public_form
from control_plane.usage.stream import STREAM

DELETED = "deleted on request"
_CONTENT = "instruction = NULL, action = NULL, action_chunk = NULL, raw_action = NULL, session_id = NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Of one customer: everything, or one session, or one request."""

    customer_id: UUID
    session_id: str | None = None
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was removed, and what was found by looking again afterwards. `left` must be empty."""

    deletion: UUID
    episodes: int
    objects: int
    log_rows: int
    feedback: int
    dataset_members: int
    left: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())

    def as_told(self) -> dict[str, Any]:
        """As it is printed and written down."""
        return {
            "episodes": self.episodes,
            "objects": self.objects,
            "log_rows": self.log_rows,
            "feedback": self.feedback,
            "dataset_members": self.dataset_members,
            "left": list(self.left),
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things are. `objects` None: this service has no object store, so nothing was ever captured."""

    engine: AsyncEngine
    redis: Redis
    objects: ObjectStore | None
    by: By


async def customer_of(engine: AsyncEngine, request_id: UUID) -> UUID:
    """Whose request it was. Raises ApiError not_found."""
    query = text("SELECT customer_id FROM inference_logs WHERE request_id = :id AND timestamp = :at")
    frame = (
        select(captured_episodes.c.customer_id)
        .join(captured_frames, captured_frames.c.episode_id == captured_episodes.c.id)
        .where(captured_frames.c.request_id == request_id)
    )
    with database_errors():
        async with engine.connect() as connection:
            found = await connection.scalar(query, {"id": request_id, "at": instant_of(request_id)})
            found = found or await connection.scalar(frame)
    if found is None:
        raise ApiError("not_found", f"there is no request {public_form(request_id)}.", param="request")
    customer_id: UUID = found
    return customer_id


async def delete(places: Places, wanted: Wanted) -> Proof:
    """Removes it all and proves it. Again is harmless. Raises ObjectStoreAwayError, DatabaseAwayError: then run it again."""
    asked, asked_at = await _ask(places, wanted)
    with database_errors():
        async with places.engine.begin() as connection:
            await forgotten.pass_gates(connection)
    episodes, objects = await _erase_captured(places, wanted)
    with database_errors():
        async with places.engine.begin() as connection:
            log_rows = await _forget_log(connection, wanted, asked_at)
            log_rows += await forget_letters(connection, wanted.customer_id, session=wanted.session_id, request=wanted.request_id)
            said = (await connection.execute(feedback.delete().where(_feedback_of(wanted)))).rowcount
            members = await connection.scalar(_MEMBERS, {"customer": wanted.customer_id, "since": asked_at})
    left = tuple([finding async for finding in _left(places, wanted, asked_at)])
    remarks = await _remarks(places, wanted)
    proof = Proof(
        deletion=asked,
        episodes=episodes,
        objects=objects,
        log_rows=log_rows,
        feedback=said,
        dataset_members=members or 0,
        left=left,
        remarks=remarks,
    )
    await _write_down(places, wanted, proof)
    return proof


_MEMBERS = text("""
SELECT count(*) FROM dataset_members m JOIN captured_episodes e ON e.id = m.episode_id
WHERE e.customer_id = :customer AND m.tombstoned_at >= :since
""")


async def _ask(places: Places, wanted: Wanted) -> tuple[UUID, datetime]:
    """From now on nothing that was asked before is stored, whatever still waits anywhere. Raises ApiError."""
    row = {
        "id": new_id(),
        "customer_id": wanted.customer_id,
        "session_id": wanted.session_id,
        "request_id": wanted.request_id,
        "asked_by": places.by.actor,
    }
    with database_errors():
        async with places.engine.begin() as connection:
            is_theirs = customer_accounts.c.id == wanted.customer_id
            if await connection.scalar(select(customer_accounts.c.id).where(is_theirs)) is None:
                raise no_such("customer", public_id("cus", wanted.customer_id))
            statement = insert(data_deletions).values(row).returning(data_deletions.c.id, data_deletions.c.asked_at)
            made = (await connection.execute(statement)).one()
    return made.id, made.asked_at


async def _erase_captured(places: Places, wanted: Wanted) -> tuple[int, int]:
    if places.objects is None:
        return 0, 0
    if wanted.request_id is not None:
        changed = await erase_frame(places.engine, places.objects, wanted.request_id, because=DELETED)
        return min(1, changed), changed
    episodes, objects = 0, 0
    while found := await _episodes(places.engine, wanted):
        for row in found:
            objects += await erase_episode(places.engine, places.objects, row.id, row.prefix, because=DELETED)
        episodes += len(found)
    return episodes, objects


async def _episodes(engine: AsyncEngine, wanted: Wanted) -> Sequence[Any]:
    table = captured_episodes.c
    is_it = and_(table.customer_id == wanted.customer_id, table.state != "deleted")
    if wanted.session_id is not None:
        is_it &= table.session_id == wanted.session_id
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(select(table.id, table.prefix).where(is_it).limit(200))).all()


def _log_of(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    where = "customer_id = :customer"
    values: dict[str, Any] = {"customer": wanted.customer_id}
    if wanted.request_id is not None:
        where += " AND request_id = :request AND timestamp = :instant"
        values |= {"request": wanted.request_id, "instant": instant_of(wanted.request_id)}
    if wanted.session_id is not None:
        where += " AND session_id = :session"
        values |= {"session": wanted.session_id}
    return where, values


async def _forget_log(connection: AsyncConnection, wanted: Wanted, asked_at: datetime) -> int:
    where, values = _log_of(wanted)
    statement = (
        f"UPDATE inference_logs SET {_CONTENT} WHERE {where} AND timestamp <= :asked_at "  # noqa: S608 -- words of this module
        "AND (instruction IS NOT NULL OR action IS NOT NULL OR raw_action IS NOT NULL OR session_id IS NOT NULL)"
    )
    return (await connection.execute(text(statement), {**values, "asked_at": asked_at})).rowcount


def _feedback_of(wanted: Wanted) -> Any:
    is_it = feedback.c.customer_id == wanted.customer_id
    if wanted.request_id is not None:
        is_it &= feedback.c.request_id == wanted.request_id
    if wanted.session_id is not None:
        is_it &= feedback.c.session_id == wanted.session_id
    return is_it


async def _left(places: Places, wanted: Wanted, asked_at: datetime) -> Any:
    """Looks everywhere again, at the stores themselves where it can. Yields what it finds."""
    where, values = _log_of(wanted)
    query = f"SELECT count(*) FROM inference_logs WHERE {where} AND timestamp <= :asked_at AND (instruction IS NOT NULL OR action IS NOT NULL)"  # noqa: S608, E501
    with database_errors():
        async with places.engine.connect() as connection:
            rows = await connection.scalar(text(query), {**values, "asked_at": asked_at})
            said = await connection.scalar(select(func.count()).select_from(feedback).where(_feedback_of(wanted)))
            frames = await connection.scalar(_frames_of(wanted)) if wanted.request_id is not None else 0
            letters = [payload for payload in await letters_of(connection, wanted.customer_id) if event_in(payload) is None]
    episodes = await _episodes(places.engine, wanted) if wanted.request_id is None else []
    unread = (len(letters), "usage events that this release cannot read (`vlaapi usage dead-letters`)")
    found = ((rows, "rows of the log"), (said, "feedback"), (len(episodes), "episodes"), (frames, "frames"), unread)
    for count, what in found:
        if count:
            yield f"{count} {what}"
    if places.objects is not None and wanted.session_id is None and wanted.request_id is None:
        org = f"/org={org_of(wanted.customer_id)}/"
        objects = [found.key for found in await places.objects.find(ROOT) if org in found.key]
        if objects:
            yield f"{len(objects)} objects below {org}"
    try:
        is_behind = await _is_behind(places.redis, asked_at)
    except REDIS_AWAY:
        yield "Redis cannot be reached, so nobody knows whether usage events from before the deletion wait there: run this again"
        return
    if is_behind:
        yield "usage events from before the deletion wait in the stream: is the worker running? Then run this again"


def _frames_of(wanted: Wanted) -> Any:
    return select(func.count()).select_from(captured_frames).where(captured_frames.c.request_id == wanted.request_id)


async def _is_behind(redis: Redis, asked_at: datetime) -> bool:
    """Whether an event that is older than the deletion is yet to become a row."""
    oldest: Any = await redis.xrange(STREAM, count=1)
    return bool(oldest) and int(oldest[0][0].partition(b"-")[0]) <= asked_at.timestamp() * 1000


async def _remarks(places: Places, wanted: Wanted) -> tuple[str, ...]:
    query = text("SELECT count(*) FROM usage_archive")
    with database_errors():
        async with places.engine.connect() as connection:
            days = await connection.scalar(query)
    if not days or wanted.request_id is not None:
        return ()
    return (f"{days} archived days keep instruction and action of their rows: invoices are audited by these files' hashes",)


async def _write_down(places: Places, wanted: Wanted, proof: Proof) -> None:
    told = proof.as_told()
    values = {"proof": told} | ({} if proof.left else {"proved_at": func.clock_timestamp()})
    change = Change(
        action="data.delete",
        target=public_id("del", proof.deletion),
        customer_id=wanted.customer_id,
        after=told | {"what": "request" if wanted.request_id else "session" if wanted.session_id else "everything"},
    )
    with database_errors():
        async with places.engine.begin() as connection:
            await connection.execute(update(data_deletions).where(data_deletions.c.id == proof.deletion).values(values))
            await record(connection, places.by, change)
