"""What is left of something after its deletion, asked of the stores themselves; and what a deletion cannot reach, in words.

A proof is that nothing is left in the log, in feedback, in events that wait, and in the object store: below every prefix where
something of it was, or anywhere if all of a customer's was to go. Changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.audit.record import By
from control_plane.capture.asked import Asked
from control_plane.capture.erase import keys_below, parts_with, strays
from control_plane.capture.forget import feedback_of, meant_in_log
from control_plane.capture.letters import event_in, letters_of
from control_plane.capture.part import ROOT, org_of
from control_plane.capture.tables import captured_episodes, captured_frames, feedback
from control_plane.db import database_errors
from control_plane.objects import ObjectStore
from control_plane.redis import REDIS_AWAY
from control_plane.usage.request_id import instant_of
from control_plane.usage.stream import STREAM

_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things are. `objects` None: this service has no object store, so nothing was ever captured."""

    engine: AsyncEngine
    redis: Redis
    objects: ObjectStore | None
    by: By
    patience_s: float = 10.0  # with events from before the deletion that a recorder is about to take
    waits_s: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0)  # between tries while a store is away


async def left(places: Places, asked: Asked) -> tuple[str, ...]:
    """What there still is; empty: nothing."""
    behind = await _behind(places, asked)
    counts = {"rows of the log": 0}
    async for _, meant in meant_in_log(places.engine, asked):
        counts["rows of the log"] += len(meant)
    counts |= await _in_tables(places.engine, asked)
    if places.objects is not None:
        counts["objects in the store"] = len([key async for key in _in_store(places.engine, places.objects, asked)])
    found = [f"{count} {what}" for what, count in counts.items() if count]
    return (*found, *behind)


async def _in_tables(engine: AsyncEngine, asked: Asked) -> dict[str, int]:
    wanted = asked.wanted
    episodes = select(func.count()).select_from(captured_episodes).where(captured_episodes.c.customer_id == wanted.customer_id)
    episodes = episodes.where(captured_episodes.c.state != "deleted", captured_episodes.c.first_at <= asked.at)
    if wanted.session_id is not None:
        episodes = episodes.where(captured_episodes.c.session_id == wanted.session_id)
    if wanted.request_id is not None:
        is_it = captured_frames.c.request_id == wanted.request_id
        episodes = select(func.count()).select_from(captured_frames).where(is_it)
    with database_errors():
        async with engine.connect() as connection:
            said = await connection.scalar(select(func.count()).select_from(feedback).where(feedback_of(asked)))
            captured = await connection.scalar(episodes)
            pages = letters_of(connection, wanted.customer_id)
            letters = [payload async for page in pages for payload in page if event_in(payload) is None]
    return {
        "feedback": said or 0,
        "frames" if wanted.request_id is not None else "episodes": captured or 0,
        "usage events that this release cannot read (`vlaapi usage dead-letters`)": len(letters),
    }


async def _in_store(engine: AsyncEngine, objects: ObjectStore, asked: Asked) -> AsyncIterator[str]:
    wanted = asked.wanted
    if wanted.request_id is not None:
        for looked in (
            keys_below(objects, asked.below),
            strays(engine, objects, wanted.customer_id, instant_of(wanted.request_id)),
        ):
            async for key in parts_with(objects, wanted.request_id, looked):
                yield key
        return
    if wanted.session_id is not None:
        async for key in keys_below(objects, asked.below):
            yield key
        return
    org = f"/org={org_of(wanted.customer_id)}/"
    keys = [key async for key in keys_below(objects, [ROOT]) if org in key]
    later = await _later(engine, asked) if keys else set()
    for key in keys:
        if key.rpartition("/")[0] + "/" not in later:
            yield key


async def _later(engine: AsyncEngine, asked: Asked) -> set[str]:
    """Prefixes of episodes that began after it was asked: a customer may go on."""
    table = captured_episodes.c
    query = select(table.prefix).where(table.customer_id == asked.wanted.customer_id, table.first_at > asked.at)
    with database_errors():
        async with engine.connect() as connection:
            return set((await connection.scalars(query)).all())


async def _behind(places: Places, asked: Asked) -> tuple[str, ...]:
    """Whether an event that is older than the deletion is yet to become a row, in spite of some patience."""
    until = monotonic() + places.patience_s
    while True:
        try:
            oldest: Any = await places.redis.xrange(STREAM, count=1)
            if not oldest or int(oldest[0][0].partition(b"-")[0]) > asked.at.timestamp() * 1000:
                return ()
            found = "usage events from before the deletion wait in the stream: is the worker running? Then run this again"
        except REDIS_AWAY:
            found = "Redis cannot be reached, so nobody knows what usage from before the deletion waits there: run this again"
        if monotonic() >= until:
            return (found,)
        await asyncio.sleep(_EVERY_S)


_ARCHIVED = """
SELECT count(*) AS days, count(exported_at) AS files FROM usage_archive
WHERE CAST(:day AS date) IS NULL OR day = CAST(:day AS date)
"""
_DATASETS = """
SELECT DISTINCT d.place FROM datasets d JOIN dataset_members m ON m.dataset_id = d.id
JOIN captured_episodes e ON e.id = m.episode_id
WHERE e.customer_id = :customer AND m.tombstoned_at >= :since ORDER BY 1
"""
_OF_SESSION = """
SELECT count(*) FROM feedback WHERE customer_id = :customer AND session_id = :session AND request_id IS NULL
"""


async def remarks(engine: AsyncEngine, asked: Asked, session_of_request: str | None) -> tuple[str, ...]:
    """What was given out or kept elsewhere before, and stays there."""
    wanted = asked.wanted
    day = None if wanted.request_id is None else instant_of(wanted.request_id).date()
    with database_errors():
        async with engine.connect() as connection:
            archived = (await connection.execute(text(_ARCHIVED), {"day": day})).one()
            values = {"customer": wanted.customer_id, "since": asked.since}
            built = (await connection.scalars(text(_DATASETS), values)).all()
            of_session = {"customer": wanted.customer_id, "session": session_of_request}
            said = await connection.scalar(text(_OF_SESSION), of_session) if session_of_request is not None else 0
    found = []
    if archived.days:
        found.append(
            f"{archived.days} archived days ({archived.files} of them written to files) keep instruction and action "
            "of their rows: invoices are audited by these files' hashes"
        )
    if built:
        found.append(f"datasets that were built from it keep it until they are built again: {', '.join(built)}")
    if said:
        found.append(f"{said} feedback on the session of this request stays: it is about the session")
    return tuple(found)
