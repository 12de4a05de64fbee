"""Removes captured data: a whole episode, or one request's frame out of it. What datasets were built from it is marked.

Objects first, rows afterwards: whoever is killed in between leaves a row that says there is something, and the next try finds it.
The episode's row is held meanwhile, so that no shipper puts back what two deletions at once, or a late part, would bring back.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Select, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.capture import episodes
from control_plane.capture.episodes import Episode, NewPart
from control_plane.capture.part import MANIFEST, PART, Packed, Summary, encoded, frames_in, summary_of, without
from control_plane.capture.tables import captured_episodes, captured_frames, captured_parts, dataset_members
from control_plane.db import database_errors
from control_plane.objects import NoSuchObjectError, ObjectStore

AT_ONCE = 5000  # frames: a longer episode loses its rows in steps, each well below the statement timeout
_SOME_FRAMES = text("""
DELETE FROM captured_frames WHERE request_id = ANY (ARRAY(
    SELECT request_id FROM captured_frames WHERE episode_id = :episode LIMIT :some))
""")
_STRAY_SINCE = timedelta(days=1)  # how long a session may have been silent when its next part was put, at the very most


async def erase_episode(engine: AsyncEngine, objects: ObjectStore, episode_id: UUID, prefix: str, *, because: str) -> int:
    """Every object below its prefix, whatever the rows say of them. Returns how many there were."""
    removed = 0
    with database_errors():
        async with engine.begin() as connection:
            if (await _hold(connection, episode_id)).frames <= AT_ONCE:
                return await _erase(connection, objects, (episode_id, prefix), because)
            removed += await _remove_below(objects, prefix)
        count = AT_ONCE
        while count == AT_ONCE:
            async with engine.begin() as connection:
                count = (await connection.execute(_SOME_FRAMES, {"episode": episode_id, "some": AT_ONCE})).rowcount
        async with engine.begin() as connection:  # and what came in between
            await _hold(connection, episode_id)
            return removed + await _erase(connection, objects, (episode_id, prefix), because)


async def _hold(connection: AsyncConnection, episode_id: UUID) -> Any:
    query = select(captured_episodes).where(captured_episodes.c.id == episode_id).with_for_update()
    return (await connection.execute(query)).one()


async def _erase(connection: AsyncConnection, objects: ObjectStore, episode: tuple[UUID, str], because: str) -> int:
    episode_id, prefix = episode
    removed = await _remove_below(objects, prefix)
    await _mark(connection, episode_id, because)
    return removed


async def _remove_below(objects: ObjectStore, prefix: str) -> int:
    removed = 0
    async for page in objects.pages(prefix):
        await objects.remove([found.key for found in page])
        removed += len(page)
    return removed


async def _mark(connection: AsyncConnection, episode_id: UUID, because: str) -> None:
    await connection.execute(delete(captured_frames).where(captured_frames.c.episode_id == episode_id))
    await connection.execute(delete(captured_parts).where(captured_parts.c.episode_id == episode_id))
    values = {
        "state": "deleted",
        "deleted_at": func.clock_timestamp(),
        "deleted_because": because,
        "frames": 0,
        "session_id": None,
    }
    await connection.execute(update(captured_episodes).where(captured_episodes.c.id == episode_id).values(values))
    await _tombstone(connection, episode_id)


async def _tombstone(connection: AsyncConnection, episode_id: UUID) -> None:
    of_it = (dataset_members.c.episode_id == episode_id) & dataset_members.c.tombstoned_at.is_(None)
    await connection.execute(update(dataset_members).where(of_it).values(tombstoned_at=func.clock_timestamp()))


async def erase_frame(engine: AsyncEngine, objects: ObjectStore, request_id: UUID, *, because: str) -> int:
    """One request's frame: its part is written anew without it. Returns how many objects changed."""
    is_it = captured_frames.c.request_id == request_id
    with database_errors():
        async with engine.begin() as connection:
            episode_id = await connection.scalar(select(captured_frames.c.episode_id).where(is_it))
            if episode_id is None:
                return 0
            row = await _hold(connection, episode_id)
            key = await connection.scalar(select(captured_frames.c.part_key).where(is_it))
            if key is None:  # another deletion was faster
                return 0
            try:
                part = without(await objects.get(key), request_id)
            except NoSuchObjectError:  # an earlier try removed it and was cut short before it could say so
                part = None
            of_it = is_it if part is not None else captured_frames.c.part_key == key
            going = await connection.scalar(select(func.count()).select_from(captured_frames).where(of_it)) or 0
            if row.frames <= going:
                return await _erase(connection, objects, (row.id, row.prefix), because)
            await _replace(connection, objects, key, part)
            await connection.execute(delete(captured_frames).where(of_it))
            shorter = {"frames": captured_episodes.c.frames - going, "is_whole": False}
            await connection.execute(update(captured_episodes).where(captured_episodes.c.id == row.id).values(shorter))
            await _tombstone(connection, row.id)
            if row.state == "closed":
                await _write_manifest(connection, objects, Episode(id=row.id, customer_id=row.customer_id, prefix=row.prefix))
    return 1


async def parts_with(objects: ObjectStore, request_id: UUID, keys: AsyncIterator[str]) -> AsyncIterator[str]:
    """Those of the objects that are parts with the request's frame: their own bytes are asked, not our rows."""
    async for key in keys:
        if key.endswith(PART):
            with suppress(NoSuchObjectError):
                if request_id.hex.encode() in await objects.get(key):
                    yield key


async def keys_below(objects: ObjectStore, prefixes: Sequence[str]) -> AsyncIterator[str]:
    """Everything there is."""
    for prefix in prefixes:
        async for page in objects.pages(prefix):
            for found in page:
                yield found.key


async def strays(engine: AsyncEngine, objects: ObjectStore, customer_id: UUID, at: datetime) -> AsyncIterator[str]:
    """Parts that no row knows, below episodes of that time: put by a shipper that was killed before it could say so."""
    table = captured_episodes.c
    is_it = (table.customer_id == customer_id) & (table.state != "deleted") & (table.first_at <= at)
    query = select(table.prefix).where(is_it & (table.last_at >= at - _STRAY_SINCE))
    for prefix in await _texts(engine, query):
        keys = [key async for key in keys_below(objects, [prefix]) if key.endswith(PART)]
        known = set(await _texts(engine, select(captured_parts.c.key).where(captured_parts.c.key == func.any(keys))))
        for key in keys:
            if key not in known:
                yield key


async def _texts(engine: AsyncEngine, query: Select[Any]) -> list[str]:
    with database_errors():
        async with engine.connect() as connection:
            return list((await connection.scalars(query)).all())


async def _replace(connection: AsyncConnection, objects: ObjectStore, key: str, part: Packed | None) -> None:
    is_it = captured_parts.c.key == key
    if part is None or not part.frames:
        await objects.remove([key])
        await connection.execute(delete(captured_parts).where(is_it))
        return
    await objects.put(key, part.data)
    summary = await connection.scalar(select(captured_parts.c.summary).where(is_it))
    await connection.execute(update(captured_parts).where(is_it).values(_facts(key, part, summary)))


def _facts(key: str, part: Packed, summary: Any) -> dict[str, Any]:
    words = msgspec.convert(summary, Summary).words
    together = summary_of([frame for frame, _ in frames_in(part.data)], words)
    return NewPart(key=key, part=part, summary=together).facts()


async def _write_manifest(connection: AsyncConnection, objects: ObjectStore, episode: Episode) -> None:
    manifest = encoded(await episodes.manifest_of(connection, episode))
    await objects.put(f"{episode.prefix}{MANIFEST}", manifest)
    is_it, digest = captured_episodes.c.id == episode.id, hashlib.sha256(manifest).digest()
    await connection.execute(update(captured_episodes).where(is_it).values(manifest_sha256=digest))
