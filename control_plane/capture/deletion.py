"""Deletes what is held of a customer's content: everything, one session, or one request; then looks for what is left.

Counters, statuses and amounts stay: invoices rest on them. Gone are all captured objects, feedback, and in the log instruction,
action and session. What still waits anywhere is held against the deletion before it is stored (`usage.forgotten`). Every step may
be done again: a store that is away for a moment is tried again, and after a longer outage, or a kill, the whole is run again.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import and_, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.audit.record import Change, record
from control_plane.capture.asked import Asked, Wanted, ask, settle
from control_plane.capture.erase import erase_episode, erase_frame, parts_with, strays
from control_plane.capture.forget import Told, forget_feedback, forget_log
from control_plane.capture.letters import forget_letters
from control_plane.capture.look_again import Places, left, remarks
from control_plane.capture.tables import captured_episodes, captured_frames
from control_plane.db import DatabaseAwayError, database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.objects import ObjectStore, ObjectStoreAwayError
from control_plane.usage.request_id import instant_of, public_form

DELETED = "deleted on request"

_T = TypeVar("_T")


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


async def delete(places: Places, wanted: Wanted, *, told: Told = lambda *_: None) -> Proof:
    """Removes it all and proves it. Again is harmless. Raises ObjectStoreAwayError, DatabaseAwayError: then run it again."""
    done = Counter[str]()
    asked = await _patiently(places, lambda: ask(places.engine, wanted, places.by))
    session = await _patiently(places, lambda: _session_of(places.engine, wanted))
    await _patiently(places, lambda: forget_feedback(places.engine, asked, done))
    if places.objects is not None:
        await _erase(places, places.objects, asked, done, told)
    await _patiently(places, lambda: forget_log(places.engine, asked, done, told))
    await _patiently(places, lambda: forget_letters(places.engine, wanted, done))
    proof = Proof(
        deletion=asked.id,
        episodes=done["episodes"],
        objects=done["objects"],
        log_rows=done["log_rows"],
        feedback=done["feedback"],
        dataset_members=await _patiently(places, lambda: _members(places.engine, asked)),
        left=await _patiently(places, lambda: left(places, asked)),
        remarks=await _patiently(places, lambda: remarks(places.engine, asked, session)),
    )
    await _write_down(places, asked, proof)
    return proof


async def _patiently(places: Places, work: Callable[[], Awaitable[_T]]) -> _T:
    """Tries again, later each time, while a store is down for a moment; then raises what it raised."""
    for wait_s in places.waits_s:
        try:
            return await work()
        except (ObjectStoreAwayError, DatabaseAwayError):
            await asyncio.sleep(wait_s)
    return await work()


async def _session_of(engine: AsyncEngine, wanted: Wanted) -> str | None:
    """Of one request, while that is still known."""
    if wanted.request_id is None:
        return None
    query = text("SELECT session_id FROM inference_logs WHERE request_id = :id AND timestamp = :at")
    with database_errors():
        async with engine.connect() as connection:
            session: str | None = await connection.scalar(query, {"id": wanted.request_id, "at": instant_of(wanted.request_id)})
            return session


async def _erase(places: Places, objects: ObjectStore, asked: Asked, done: Counter[str], told: Told) -> None:
    wanted = asked.wanted
    if wanted.request_id is not None:
        changed = await _patiently(places, lambda: _erase_request(places.engine, objects, wanted))
        done["objects"] += changed
        done["episodes"] += min(1, changed)
        return
    while found := await _patiently(places, lambda: _episodes(places.engine, asked)):
        for row in found:
            erase = partial(erase_episode, places.engine, objects, row.id, row.prefix, because=DELETED)
            done["objects"] += await _patiently(places, erase)
            done["episodes"] += 1
            told("episodes", done["episodes"])


async def _erase_request(engine: AsyncEngine, objects: ObjectStore, wanted: Wanted) -> int:
    assert wanted.request_id is not None  # noqa: S101 -- the caller looked
    changed = await erase_frame(engine, objects, wanted.request_id, because=DELETED)
    unknown = strays(engine, objects, wanted.customer_id, instant_of(wanted.request_id))
    if keys := [key async for key in parts_with(objects, wanted.request_id, unknown)]:
        await objects.remove(keys)
    return changed + len(keys)


async def _episodes(engine: AsyncEngine, asked: Asked) -> Sequence[Any]:
    """Some that are still there. One that began afterwards is not meant."""
    table, wanted = captured_episodes.c, asked.wanted
    is_it = and_(table.customer_id == wanted.customer_id, table.state != "deleted", table.first_at <= asked.at)
    if wanted.session_id is not None:
        is_it &= table.session_id == wanted.session_id
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(select(table.id, table.prefix).where(is_it).limit(200))).all()


_MEMBERS = text("""
SELECT count(*) FROM dataset_members m JOIN captured_episodes e ON e.id = m.episode_id
WHERE e.customer_id = :customer AND m.tombstoned_at >= :since
""")


async def _members(engine: AsyncEngine, asked: Asked) -> int:
    with database_errors():
        async with engine.connect() as connection:
            values = {"customer": asked.wanted.customer_id, "since": asked.since}
            return await connection.scalar(_MEMBERS, values) or 0


async def _write_down(places: Places, asked: Asked, proof: Proof) -> None:
    told, wanted = proof.as_told(), asked.wanted
    change = Change(
        action="data.delete",
        target=public_id("del", proof.deletion),
        customer_id=wanted.customer_id,
        after=told | {"what": "request" if wanted.request_id else "session" if wanted.session_id else "everything"},
    )
    with database_errors():
        async with places.engine.begin() as connection:
            await settle(connection, asked, told, is_proved=not proof.left)
            await record(connection, places.by, change)
