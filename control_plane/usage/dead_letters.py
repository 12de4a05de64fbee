"""Usage events that cannot become rows: kept whole with the reason, so that none is lost and none stops the others.

`intake` sets them aside, `vlaapi usage` lists them and tries them again when the cause is gone. docs/USAGE.md has the runbook.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg

_DETAIL_CHARS = 500


class Reason(StrEnum):
    """Why an event could not be recorded."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown_schema"  # of a newer release: try again after the upgrade
    WRONG_INSTANT = "wrong_instant"  # occurred_at is not the instant in the id
    OUT_OF_RANGE = "out_of_range"  # too old or in the future: a clock is wrong
    NO_PARTITION = "no_partition"  # its day was detached
    UNKNOWN_CUSTOMER = "unknown_customer"
    CONFLICT = "conflict"  # the id has a row with another payload
    REJECTED = "rejected"  # the database refused this one


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One event that was set aside."""

    payload: bytes
    reason: Reason
    detail: str
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLetter:
    """A dead letter as it lies in the database, without its payload."""

    payload_hash: bytes
    request_id: UUID | None
    reason: Reason
    detail: str
    created_at: datetime


async def set_aside(connection: "asyncpg.Connection", letters: Sequence[DeadLetter]) -> None:
    """Keeps them; the same payload again is the same letter."""
    await connection.executemany(
        """
        INSERT INTO usage_dead_letters (payload_hash, payload, request_id, reason, detail)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (payload_hash) DO NOTHING
        """,
        [(_hash(letter), letter.payload, letter.request_id, letter.reason.value, _readable(letter.detail)) for letter in letters],
    )


async def newest(connection: "asyncpg.Connection", *, limit: int) -> list[KeptLetter]:
    """The letters set aside last."""
    rows = await connection.fetch(
        "SELECT payload_hash, request_id, reason, detail, created_at FROM usage_dead_letters ORDER BY created_at DESC LIMIT $1",
        limit,
    )
    return [KeptLetter(**{**row, "reason": Reason(row["reason"])}) for row in rows]


async def take_out(connection: "asyncpg.Connection", reason: Reason) -> list[bytes]:
    """Deletes every letter with that reason and returns the payloads. In the caller's transaction."""
    rows = await connection.fetch("DELETE FROM usage_dead_letters WHERE reason = $1 RETURNING payload", reason.value)
    return [row["payload"] for row in rows]


def _hash(letter: DeadLetter) -> bytes:
    return hashlib.sha256(letter.payload).digest()


def _readable(detail: str) -> str:
    """A detail may quote the event, so it may hold what PostgreSQL's text cannot."""
    return detail.encode(errors="replace").decode().replace("\0", "?")[:_DETAIL_CHARS]
