"""What customers asked to be forgotten, held against what was still on its way: a frame in a file, an event in the stream.

A deletion writes its row and then passes the gate: it waits for everybody who began before there was that row. Whoever begins
afterwards holds the gate, looks, and sees it, so nothing that is covered can be stored after a deletion has looked again. The
locks are transactions', so they work behind a pooler and end with whoever dies. Recorder, shipper and deletion call it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.usage.request_id import instant_of

ROWS_GATE = 0x766C615F726F7773  # "vla_rows": held by recorders while a batch is stored
FRAMES_GATE = 0x766C615F6672616D  # "vla_fram": held by shippers while a part is stored

# Places: customers, requests, the oldest instant of these requests.
ASKED = """
SELECT customer_id, session_id, request_id, asked_at FROM data_deletions
WHERE customer_id = ANY({}) AND (request_id = ANY({}) OR (request_id IS NULL AND asked_at >= {}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What one deletion was about."""

    customer_id: UUID
    session_id: str | None
    request_id: UUID | None
    asked_at: datetime

    def covers(self, customer_id: UUID, request_id: UUID, session_id: str | None, at: datetime) -> bool:
        """Whether it is about this request: all of the customer's, a session's, or this one, up to when it was asked."""
        if self.customer_id != customer_id:
            return False
        if self.request_id is not None:
            return self.request_id == request_id
        if self.session_id is not None and self.session_id != session_id:
            return False
        return at <= self.asked_at


async def hold(connection: AsyncConnection, gate: int) -> None:
    """Keeps deletions waiting until the transaction's end. Look only afterwards."""
    await connection.execute(text("SELECT pg_advisory_xact_lock_shared(:gate)"), {"gate": gate})


async def pass_gate(connection: AsyncConnection, gate: int) -> None:
    """Returns when all who held it have ended. In a transaction of its own that ends at once: others wait behind it."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:gate)"), {"gate": gate})


async def asked(connection: AsyncConnection, customer_id: UUID, request_ids: Sequence[UUID]) -> list[Forgotten]:
    """The deletions that may be about some of these requests of one customer."""
    query = text(ASKED.format(":customers", ":requests", ":oldest_at"))
    values = {"customers": [customer_id], "requests": list(request_ids), "oldest_at": min(map(instant_of, request_ids))}
    return [Forgotten(**row) for row in (await connection.execute(query, values)).mappings()]
