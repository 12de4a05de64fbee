"""E-mails and webhook messages whose matter is closed are removed after KEPT: nobody needs their words, and they name people.

What still waits stays, however old: nothing that was to be sent is lost here. Mails with invoices stay too: that one was sent is
what keeps it from being sent again, and belongs to the books. In small transactions, any number of workers may do
it. Called by the worker; knows neither how a mail nor how a webhook is sent.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import database_errors

KEPT: Final = timedelta(days=90)
_AT_ONCE = 500

# Attempts go with their delivery. Who waits for an address that is switched off waits for ever, and is closed as well.
_CLOSED = (
    text("""
    WITH old AS (
        SELECT id FROM mails WHERE status <> 'waiting' AND created_at < :before AND dedupe_key NOT LIKE 'invoice-sent %'
        ORDER BY id LIMIT :count FOR UPDATE SKIP LOCKED
    ), attached AS (DELETE FROM mail_attachments USING old WHERE mail_id = old.id)
    DELETE FROM mails USING old WHERE mails.id = old.id
    """),
    text("""
    WITH old AS (
        SELECT id FROM webhook_messages m WHERE created_at < :before AND NOT EXISTS (
            SELECT 1 FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id
            WHERE d.message_id = m.id AND d.status = 'waiting' AND e.is_enabled
        ) ORDER BY id LIMIT :count FOR UPDATE SKIP LOCKED
    ), delivered AS (DELETE FROM webhook_deliveries USING old WHERE message_id = old.id)
    DELETE FROM webhook_messages USING old WHERE webhook_messages.id = old.id
    """),
)


async def sweep_outboxes(engine: AsyncEngine) -> int:
    """Removes all that is due; says how many messages that were. Raises DatabaseAwayError."""
    before, removed = datetime.now(UTC) - KEPT, 0
    for statement in _CLOSED:
        is_more = True
        while is_more:
            with database_errors():
                async with engine.begin() as connection:
                    done = await connection.execute(statement, {"before": before, "count": _AT_ONCE})
            removed += done.rowcount
            is_more = done.rowcount == _AT_ONCE
    return removed
