"""The database's side of capture: episodes, their parts and frames. What takes an engine is a transaction of its own.

An episode is open while frames of its session come, closed when its manifest is there, deleted when its objects are gone; its row
stays, so that datasets can say what became of their members. Whoever puts something below its prefix holds its row: parts,
manifest and deletion of one episode come one after the other, however many workers there are. Knows no store.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Row, func, insert, select, text, update
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


async def known(connection: AsyncConnection, request_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the requests whose frames are stored already."""
    query = select(captured_frames.c.request_id).where(captured_frames.c.request_id == func.any(list(request_ids)))
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


async def hold(connection: AsyncConnection, episode: Episode) -> bool:
    """Keeps others from its objects until the transaction's end. False: it is open no longer."""
    query = select(captured_episodes.c.id).where(captured_episodes.c.id == episode.id, captured_episodes.c.state == "open")
    return await connection.scalar(query.with_for_update()) is not None


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


async def add_part(connection: AsyncConnection, episode: Episode, new: NewPart, samples: Sequence[Sample]) -> None:
    """The part and its frames, which count from now on. The episode is held. The same part again replaces itself."""
    facts = new.facts()
    frames = [{"request_id": sample.request_id, "episode_id": episode.id, "part_key": new.key} for sample in samples]
    written = insert_or(captured_parts).values(key=new.key, episode_id=episode.id, **facts)
    await connection.execute(written.on_conflict_do_update(index_elements=["key"], set_=facts))
    await connection.execute(insert(captured_frames), frames)
    ends = {"first": samples[0].request_id, "last": samples[-1].request_id}
    await connection.execute(text(_GREW), {"id": episode.id, **ends})


# The instant is inside the id, as everywhere. The time to keep an episode counts from its last frame.
_GREW = """
UPDATE captured_episodes SET touched_at = clock_timestamp(),
    frames = (SELECT count(*) FROM captured_frames f WHERE f.episode_id = :id),
    first_at = least(first_at, uuid_extract_timestamp(:first)),
    last_at = greatest(last_at, uuid_extract_timestamp(:last)),
    keep_until = keep_until + (greatest(last_at, uuid_extract_timestamp(:last)) - last_at)
WHERE id = :id AND state = 'open'
"""


async def idle(engine: AsyncEngine, for_: timedelta) -> list[Episode]:
    """Open episodes with frames to which nothing came for so long."""
    query = select(captured_episodes).where(_is_idle(for_)).limit(_AT_ONCE)
    with database_errors():
        async with engine.connect() as connection:
            return [_episode(row) for row in await connection.execute(query)]


def _is_idle(for_: timedelta) -> ColumnElement[bool]:
    table = captured_episodes.c
    return (table.state == "open") & (table.touched_at < func.clock_timestamp() - for_) & (table.frames > 0)


@asynccontextmanager
async def closing(engine: AsyncEngine, episode: Episode, for_: timedelta) -> AsyncIterator[AsyncConnection | None]:
    """Holds an idle episode while its manifest is put. None: somebody else holds it, or something has come after all."""
    query = select(captured_episodes.c.id).where(captured_episodes.c.id == episode.id, _is_idle(for_))
    with database_errors():
        async with engine.begin() as connection:
            is_ours = await connection.scalar(query.with_for_update(skip_locked=True)) is not None
            yield connection if is_ours else None


async def manifest_of(connection: AsyncConnection, episode: Episode) -> Manifest:
    """What there is of it, from its rows. The episode is held."""
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


async def close(connection: AsyncConnection, episode: Episode, *, sha256: bytes) -> None:
    """Its manifest is there. The episode is held: what the manifest counts is all there is."""
    is_it = captured_episodes.c.id == episode.id
    await connection.execute(update(captured_episodes).where(is_it).values(state="closed", manifest_sha256=sha256))


def _episode(row: Row[Any]) -> Episode:
    return Episode(id=row.id, customer_id=row.customer_id, prefix=row.prefix)
