"""Removes captured data: a whole episode, or one request's frame out of it. What datasets were built from it is marked.

Objects first, rows afterwards: whoever is killed in between leaves a row that says there is something, and the next try finds it.
"""

import hashlib
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.capture import episodes
from control_plane.capture.episodes import Episode, NewPart
from control_plane.capture.part import MANIFEST, Packed, Summary, encoded, frames_in, summary_of, without
from control_plane.capture.tables import captured_episodes, captured_frames, captured_parts, dataset_members
from control_plane.db import database_errors
from control_plane.objects import NoSuchObjectError, ObjectStore


async def erase_episode(engine: AsyncEngine, objects: ObjectStore, episode_id: UUID, prefix: str, *, because: str) -> int:
    """Every object below its prefix, whatever the rows say of them. Returns how many there were."""
    keys = [found.key for found in await objects.find(prefix)]
    if keys:
        await objects.remove(keys)
    with database_errors():
        async with engine.begin() as connection:
            await _mark(connection, episode_id, because)
    return len(keys)


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
    row = await _frame(engine, request_id)
    if row is None:
        return 0
    episode = Episode(id=row.episode_id, customer_id=row.customer_id, prefix=row.prefix)
    try:
        part = without(await objects.get(row.part_key), request_id)
    except NoSuchObjectError:
        return await erase_episode(engine, objects, episode.id, episode.prefix, because=because)
    if row.frames <= 1:
        return await erase_episode(engine, objects, episode.id, episode.prefix, because=because)
    if part.frames:
        await objects.put(row.part_key, part.data)
    else:
        await objects.remove([row.part_key])
    with database_errors():
        async with engine.begin() as connection:
            of_part = captured_parts.c.key == row.part_key
            if part.frames:
                await connection.execute(update(captured_parts).where(of_part).values(_facts(row, part)))
            else:
                await connection.execute(delete(captured_parts).where(of_part))
            await connection.execute(delete(captured_frames).where(captured_frames.c.request_id == request_id))
            shorter = {"frames": captured_episodes.c.frames - 1, "is_whole": False}
            await connection.execute(update(captured_episodes).where(captured_episodes.c.id == episode.id).values(shorter))
            await _tombstone(connection, episode.id)
    if row.state == "closed":
        await _write_manifest(engine, objects, episode)
    return 1


def _facts(row: Any, part: Packed) -> dict[str, Any]:
    words = msgspec.convert(row.summary, Summary).words
    summary = summary_of([frame for frame, _ in frames_in(part.data)], words)
    return NewPart(key=row.part_key, part=part, summary=summary).facts()


async def _frame(engine: AsyncEngine, request_id: UUID) -> Any:
    columns = (
        captured_frames.c.part_key,
        captured_episodes.c.id.label("episode_id"),
        captured_episodes.c.customer_id,
        captured_episodes.c.prefix,
        captured_episodes.c.frames,
        captured_episodes.c.state,
        captured_parts.c.summary,
    )
    joined = captured_frames.join(captured_episodes, captured_frames.c.episode_id == captured_episodes.c.id)
    joined = joined.join(captured_parts, captured_frames.c.part_key == captured_parts.c.key)
    query = select(*columns).select_from(joined).where(captured_frames.c.request_id == request_id)
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(query)).one_or_none()


async def _write_manifest(engine: AsyncEngine, objects: ObjectStore, episode: Episode) -> None:
    manifest = encoded(await episodes.manifest_of(engine, episode))
    await objects.put(f"{episode.prefix}{MANIFEST}", manifest)
    with database_errors():
        async with engine.begin() as connection:
            is_it = captured_episodes.c.id == episode.id
            digest = hashlib.sha256(manifest).digest()
            await connection.execute(update(captured_episodes).where(is_it).values(manifest_sha256=digest))
