"""What a month's files must be: one JSON object beside them, written after the last of them. Knows no store and no database."""

from datetime import date
from uuid import UUID

import msgspec

from control_plane.usage.roll_ups import COUNTS

SCHEMA = 1

Counts = dict[UUID, dict[str, int]]  # by customer: the columns of the roll-ups


class DayFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file: where it is, what it hashes to, and what its rows add up to."""

    day: date
    key: str
    sha256: str
    size_bytes: int
    totals: dict[str, int]
    customers: Counts


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A month. Without it the files are an attempt that was cut short."""

    schema: int = SCHEMA
    month: str
    days: list[DayFile]


def prefix_of(month: date) -> str:
    """Where a month lies; the names are what DuckDB and Spark take for columns."""
    return f"usage/v1/month={month:%Y-%m}/"


def day_key(day: date) -> str:
    """The file of one day."""
    return f"{prefix_of(day)}day={day}/rows.parquet"


def manifest_key(month: date) -> str:
    """The commit marker."""
    return f"{prefix_of(month)}manifest.json"


def encode(manifest: Manifest) -> bytes:
    """As a person can read it."""
    return msgspec.json.format(msgspec.json.encode(manifest))


def decode(data: bytes) -> Manifest:
    """Raises ValueError for anything else."""
    return msgspec.json.decode(data, type=Manifest)


def total(counts: Counts) -> dict[str, int]:
    """All customers together."""
    return {name: sum(of_one[name] for of_one in counts.values()) for name in COUNTS}
