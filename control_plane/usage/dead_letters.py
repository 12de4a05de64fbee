"""Usage events that cannot become rows: kept whole with the reason, so that none is lost and none stops the others.

The recorder sets them aside, `vlaapi usage` lists them and puts them back into the stream when the cause is gone. docs/USAGE.md
has the runbook.
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
    UNKNOWN_SCHEMA = "unknown_schema"  # of a newer release: put back after the upgrade
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
    """A dead letter as it lies in the database."""

    payload_hash: bytes
    payload: bytes
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


def _hash(letter: DeadLetter) -> bytes:
    return hashlib.sha256(letter.payload).digest()


def _readable(detail: str) -> str:
    """A detail may quote the event, so it may hold what PostgreSQL's text cannot."""
    return detail.encode(errors="replace").decode().replace("\0", "?")[:_DETAIL_CHARS]
