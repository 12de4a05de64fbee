"""An invoice as one value: who, to whom, which lines, how much; and the hash that shows whether it is still the same.

The hash is over everything that was frozen when it was finalized, in one canonical form. Knows no table and no document.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from billing.rating import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What an invoice says. `number`, `finalized_at` and `due_on` are None in a draft."""

    id: UUID
    customer_id: UUID
    month: date
    currency: str
    legal_entity: str
    number: str | None
    total_cents: int
    finalized_at: datetime | None
    due_on: date | None
    seller: Mapping[str, Any]
    buyer: Mapping[str, Any]
    prices: Sequence[Mapping[str, Any]]
    lines: Sequence[Line]


def content_hash(statement: Statement) -> bytes:
    """SHA-256 of the canonical JSON: keys in order, instants in UTC with microseconds, exact decimals without trailing zeros."""
    plain = json.dumps(asdict(statement), default=_plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(plain.encode()).digest()


def _plain(value: object) -> str:
    match value:
        case datetime():
            return value.isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case Decimal():
            return f"{value.normalize():f}"
        case UUID():
            return str(value)
    raise TypeError(type(value).__name__)
