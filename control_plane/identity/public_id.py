"""Ids as people and programs outside see them: a prefix that says what it is, and the 32 hex digits of its UUID.

`cus_018f…` in a log, a URL or an invoice becomes `WHERE id = '018f…'` in SQL without a table of codes. Knows no resource.
"""

import re
from uuid import UUID

from uuid_utils.compat import uuid7

_HEX = re.compile(r"[0-9a-f]{32}")


def new_id() -> UUID:
    """A UUIDv7: unique, and sorted by creation."""
    return uuid7()


def public_id(prefix: str, id_: UUID) -> str:
    """`public_id("cus", …)` → `cus_018f…`."""
    return f"{prefix}_{id_.hex}"


def parse_public_id(prefix: str, text: str) -> UUID | None:
    """The UUID, or None when this is not such an id."""
    start = f"{prefix}_"
    digits = text[len(start) :]
    return UUID(hex=digits) if text.startswith(start) and _HEX.fullmatch(digits) else None
