"""Corrects metered usage: a new record beside the roll-up, counted like usage of that day. Nothing is edited."""

from datetime import UTC, date, datetime
from uuid import UUID

from sqlalchemy import text

from control_plane.audit.record import Change, record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.fields import MAX_NUMBER, clean_name
from control_plane.keys.verbs import Stores, no_such

MAX_REASON = 500

_LOCK = text("SELECT 1 FROM customer_accounts WHERE id = :id FOR NO KEY UPDATE")
_BEGAN = text("SELECT (min(effective_at) AT TIME ZONE 'UTC')::date FROM subscriptions WHERE customer_id = :id")
_USED = text("""
    SELECT (SELECT COALESCE(sum(billable_requests), 0) FROM usage_days WHERE customer_id = :id AND day = :day)
         + (SELECT COALESCE(sum(quantity), 0) FROM usage_adjustments WHERE customer_id = :id AND day = :day)
""")
_INSERT = text("""
    INSERT INTO usage_adjustments (id, customer_id, day, quantity, reason, created_by)
    VALUES (:id, :customer_id, :day, :quantity, :reason, :created_by)
""")


async def adjust_usage(stores: Stores, customer_id: UUID, day: date, quantity: int, reason: str) -> None:
    """Adds so many billable requests to a day, or takes them back; not more than it has."""
    reason = clean_name(reason, field="reason", max_length=MAX_REASON)
    if not 0 < abs(quantity) <= MAX_NUMBER:
        raise ApiError("invalid_field", f"requests must be from -{MAX_NUMBER} to {MAX_NUMBER}, and not 0.", param="requests")
    if day > datetime.now(UTC).date():
        raise ApiError("invalid_field", "day must not be in the future.", param="day")
    with database_errors():
        async with stores.engine.begin() as connection:
            if await connection.scalar(_LOCK, {"id": customer_id}) is None:
                raise no_such("customer", public_id("cus", customer_id))
            began = await connection.scalar(_BEGAN, {"id": customer_id})
            if began is not None and day < began:
                raise ApiError("invalid_field", f"day must not be before {began}, when the customer began.", param="day")
            used = int(await connection.scalar(_USED, {"id": customer_id, "day": day}))
            if used + quantity < 0:
                raise ApiError("invalid_field", f"That day has {used:,} requests to take back.", param="requests")
            row = {"id": new_id(), "customer_id": customer_id, "day": day, "quantity": quantity, "reason": reason}
            await connection.execute(_INSERT, row | {"created_by": stores.by.actor})
            after = {"day": day, "quantity": quantity, "reason": reason}
            change = Change(action="usage.adjust", target=public_id("cus", customer_id), customer_id=customer_id, after=after)
            await record(connection, stores.by, change)
