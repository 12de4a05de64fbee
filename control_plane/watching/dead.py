"""How much was given up and waits for a person: mails, webhook deliveries, usage events, one gauge by kind. Run by the worker."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import database_errors
from control_plane.metrics import WatchMetrics

# Of mails and deliveries only recent ones: an old one that nobody replayed is a decision. A usage event is money, however old.
_COUNTS = text("""
    SELECT (SELECT count(*) FROM mails WHERE status = 'dead' AND created_at > now() - interval '3 days') AS mails,
           (SELECT count(*) FROM webhook_deliveries WHERE status = 'dead' AND created_at > now() - interval '3 days') AS webhooks,
           (SELECT count(*) FROM usage_dead_letters) AS usage_events
""")


async def count_dead(engine: AsyncEngine, metrics: WatchMetrics) -> None:
    """One look. Raises DatabaseAwayError."""
    with database_errors():
        async with engine.connect() as connection:
            found = (await connection.execute(_COUNTS)).one()
    for kind, count in found._mapping.items():
        metrics.dead.labels(kind).set(count)
