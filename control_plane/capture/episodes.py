"""The database's side of capture: episodes, their parts and frames. Each function is one transaction; raises DatabaseAwayError.

An episode is open while frames of its session come, closed when its manifest is there, deleted when its objects are gone; its row
stays, so that datasets can say what became of their members. Knows no object store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.capture.part import Manifest, Packed, PartEntry, Summary, org_of, prefix_of, together
from control_plane.capture.sample import Sample
from control_plane.capture.tables import captured_episodes, captured_frames, captured_parts
from control_plane.db import database_errors
from control_plane.identity.public_id import new_id

_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """An episode's row, as far as its objects need it."""

    id: UUID
    customer_id: UUID
    prefix: str


async def known(engine: AsyncEngine, request_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the requests whose frames are stored already."""
    if not request_ids:
        return set()
    query = select(captured_frames.c.request_id).where(captured_frames.c.request_id == func.any(list(request_ids)))
    with database_errors():
        async with engine.connect() as connection:
            return set((await connection.scalars(query)).all())


async def open_(engine: AsyncEngine, samples: Sequence[tuple[Sample, datetime]], session_key: bytes) -> Episode:
    """The open episode of that session, made if there is none. It is there before anything is put under its name."""
    sample, first_at = samples[0]
    last_at, id_ = samples[-1][1], new_id()
    row = {
        "id": id_,
        "customer_id": sample.customer_id,
        "session_key": session_key,
        "session_id": sample.session_id,
        "data_policy": sample.terms.policy,
        "model": sample.model,
        "robot_type": sample.robot_type,
        "prefix": prefix_of(sample, id_, first_at),
        "is_whole": sample.is_whole,
        "first_at": first_at,
        "last_at": last_at,
        "keep_until": last_at + timedelta(days=sample.terms.keep_days),
    }
    is_it = (captured_episodes.c.customer_id == sample.customer_id) & (captured_episodes.c.session_key == session_key)
    with database_errors():
        async with engine.begin() as connection:
            await connection.execute(insert_or(captured_episodes).values(row).on_conflict_do_nothing())
            query = select(captured_episodes).where(is_it & (captured_episodes.c.state == "open"))
            found = (await connection.execute(query)).one()
    return _episode(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPart:
    """A part that has been put."""

    key: str
    part: Packed
    summary: Summary

    def facts(self) -> dict[str, Any]:
        """Its columns."""
        return {
            "sha256": self.part.sha256,
            "size_bytes": len(self.part.data),
            "frames": self.part.frames,
            "summary": msgspec.to_builtins(self.summary, str_keys=True),
        }


async def add_part(engine: AsyncEngine, episode: Episode, new: NewPart, samples: Sequence[Sample]) -> None:
    """The part and its frames, which count from now on. The same part again replaces itself."""
    facts = new.facts()
    frames = [{"request_id": sample.request_id, "episode_id": episode.id, "part_key": new.key} for sample in samples]
    with database_errors():
        async with engine.begin() as connection:
            written = insert_or(captured_parts).values(key=new.key, episode_id=episode.id, **facts)
            await connection.execute(written.on_conflict_do_update(index_elements=["key"], set_=facts))
            await connection.execute(insert(captured_frames), frames)
            await connection.execute(
                text(_GREW), {"id": episode.id, "first": samples[0].request_id, "last": samples[-1].request_id}
            )


# The instant is inside the id, as everywhere. The time to keep an episode counts from its last frame.
_GREW = """
UPDATE captured_episodes SET touched_at = clock_timestamp(),
    frames = (SELECT count(*) FROM captured_frames f WHERE f.episode_id = :id),
    first_at = least(first_at, uuid_extract_timestamp(:first)),
    last_at = greatest(last_at, uuid_extract_timestamp(:last)),
    keep_until = keep_until + (greatest(last_at, uuid_extract_timestamp(:last)) - last_at)
WHERE id = :id
"""


async def idle(engine: AsyncEngine, for_: timedelta) -> list[Episode]:
    """Open episodes with frames to which nothing came for so long."""
    is_over = (captured_episodes.c.touched_at < func.clock_timestamp() - for_) & (captured_episodes.c.frames > 0)
    query = select(captured_episodes).where((captured_episodes.c.state == "open") & is_over).limit(_AT_ONCE)
    with database_errors():
        async with engine.connect() as connection:
            return [_episode(row) for row in await connection.execute(query)]


async def manifest_of(engine: AsyncEngine, episode: Episode) -> Manifest:
    """What there is of it, from its rows."""
    with database_errors():
        async with engine.connect() as connection:
            row = (await connection.execute(select(captured_episodes).where(captured_episodes.c.id == episode.id))).one()
            parts = await parts_of(connection, episode.id)
    return Manifest(
        episode=row.id,
        org=org_of(row.customer_id),
        session_id=row.session_id,
        data_policy=row.data_policy,
        keep_until=row.keep_until,
        model=row.model,
        robot_type=row.robot_type,
        is_whole=row.is_whole,
        frames=sum(part.frames for part in parts),
        first_at=row.first_at,
        last_at=row.last_at,
        summary=together([msgspec.convert(part.summary, Summary) for part in parts]),
        parts=tuple(
            PartEntry(key=part.key, sha256=part.sha256.hex(), size_bytes=part.size_bytes, frames=part.frames) for part in parts
        ),
    )


async def parts_of(connection: AsyncConnection, episode_id: UUID) -> Sequence[Row[Any]]:
    """An episode's parts, by name."""
    query = select(captured_parts).where(captured_parts.c.episode_id == episode_id).order_by(captured_parts.c.key)
    return (await connection.execute(query)).all()


async def close(engine: AsyncEngine, episode: Episode, *, sha256: bytes) -> None:
    """Its manifest is there."""
    statement = (
        update(captured_episodes)
        .where((captured_episodes.c.id == episode.id) & (captured_episodes.c.state == "open"))
        .values(state="closed", manifest_sha256=sha256)
    )
    with database_errors():
        async with engine.begin() as connection:
            await connection.execute(statement)


def _episode(row: Row[Any]) -> Episode:
    return Episode(id=row.id, customer_id=row.customer_id, prefix=row.prefix)
