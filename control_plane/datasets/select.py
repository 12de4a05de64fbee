"""Which captured episodes may go into a dataset: closed, whole, under `train`, of customers who still agree to it today.

Keeps the rows of datasets and their members: what was built where, and from what, so that a deletion can say which datasets it
touches. Raises DatabaseAwayError. Knows no object and no file format.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.capture.tables import dataset_members, datasets
from control_plane.db import database_errors
from control_plane.identity.public_id import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which episodes; None asks nothing. `task`: words that the instruction must contain, in any case."""

    since: datetime | None = None
    until: datetime | None = None
    task: str | None = None
    model: str | None = None
    robot_type: str | None = None
    customer_id: UUID | None = None
    only_success: bool = False
    held_out: float = 0.1

    def as_json(self) -> dict[str, Any]:
        """For the row."""
        instants = {name: None if (at := getattr(self, name)) is None else at.isoformat() for name in ("since", "until")}
        names = ("task", "model", "robot_type", "only_success", "held_out")
        customer = None if self.customer_id is None else self.customer_id.hex
        return instants | {name: getattr(self, name) for name in names} | {"customer": customer}


# What is asked to be deleted is in no dataset from then on, also while its objects are still being removed.
_NOT_ASKED_BACK = """
NOT EXISTS (
    SELECT FROM data_deletions d WHERE d.customer_id = e.customer_id AND CASE WHEN d.request_id IS NULL
        THEN (d.session_id IS NULL OR d.session_id = e.session_id) AND e.first_at <= d.asked_at
        ELSE EXISTS (SELECT FROM captured_frames f WHERE f.request_id = d.request_id AND f.episode_id = e.id) END
)
"""
_EPISODES = f"""
SELECT e.id, e.customer_id, e.session_id, e.model, e.robot_type, e.prefix, e.frames, e.manifest_sha256
FROM captured_episodes e JOIN customer_accounts c ON c.id = e.customer_id
WHERE e.state = 'closed' AND e.is_whole AND e.data_policy = 'train' AND e.keep_until > now()
  AND c.data_policy = 'train' AND NOT c.is_zero_retention
  AND (CAST(:since AS timestamptz) IS NULL OR e.first_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR e.first_at < :until)
  AND (CAST(:model AS text) IS NULL OR e.model = :model)
  AND (CAST(:robot_type AS text) IS NULL OR e.robot_type = :robot_type)
  AND (CAST(:customer_id AS uuid) IS NULL OR e.customer_id = :customer_id)
  AND {_NOT_ASKED_BACK}
ORDER BY e.id
"""  # noqa: S608 -- words of this module
_STILL = f"""
SELECT e.id FROM captured_episodes e
WHERE e.id = :id AND e.state = 'closed' AND e.manifest_sha256 = :sha256 AND {_NOT_ASKED_BACK} FOR SHARE
"""  # noqa: S608 -- as above


async def episodes(engine: AsyncEngine, asked: Asked) -> Sequence[Row[Any]]:
    """By age."""
    names = ("since", "until", "model", "robot_type", "customer_id")
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(text(_EPISODES), {name: getattr(asked, name) for name in names})).all()


async def begin(engine: AsyncEngine, place: str, asked: Asked) -> UUID:
    """The row of a dataset that is about to be written."""
    row = {"id": new_id(), "place": place, "asked": asked.as_json()}
    with database_errors():
        async with engine.begin() as connection:
            await connection.execute(insert(datasets).values(row))
    id_: UUID = row["id"]  # type: ignore[assignment]  # as just made
    return id_


async def join(engine: AsyncEngine, dataset_id: UUID, episode: Row[Any], split: str) -> bool:
    """The episode is about to go into it: written down first, so that no deletion can miss it. False: it has changed since."""
    member = {"dataset_id": dataset_id, "episode_id": episode.id, "split": split}
    with database_errors():
        async with engine.begin() as connection:
            still = {"id": episode.id, "sha256": episode.manifest_sha256}
            if await connection.scalar(text(_STILL), still) is None:
                return False
            await connection.execute(insert_or(dataset_members).values(member).on_conflict_do_nothing())
    return True


async def finish(engine: AsyncEngine, dataset_id: UUID, *, episodes: int, frames: int) -> None:
    """It is whole."""
    values = {"episodes": episodes, "frames": frames, "finished_at": func.clock_timestamp()}
    with database_errors():
        async with engine.begin() as connection:
            await connection.execute(update(datasets).where(datasets.c.id == dataset_id).values(values))


_GONE = """
SELECT m.episode_id FROM dataset_members m JOIN captured_episodes e ON e.id = m.episode_id
JOIN customer_accounts c ON c.id = e.customer_id
WHERE m.dataset_id = :id
  AND (m.tombstoned_at IS NOT NULL OR e.state = 'deleted' OR c.data_policy <> 'train' OR c.is_zero_retention)
"""


async def gone(engine: AsyncEngine, dataset_id: UUID) -> set[UUID]:
    """Members that may be in it no longer: deleted, or of a customer who has withdrawn."""
    with database_errors():
        async with engine.connect() as connection:
            return set((await connection.scalars(text(_GONE), {"id": dataset_id})).all())


async def is_known(engine: AsyncEngine, dataset_id: UUID) -> bool:
    """Whether there is a row of that dataset."""
    with database_errors():
        async with engine.connect() as connection:
            return await connection.scalar(select(datasets.c.id).where(datasets.c.id == dataset_id)) is not None
