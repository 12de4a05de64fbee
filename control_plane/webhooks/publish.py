"""Puts a message into the outbox of webhooks, in the caller's transaction, once per address of the customer that wants its type.

The same `dedupe_key` again is the same message. Knows no HTTP; `delivery.py` sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import any_, insert, literal, or_, select
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.identity.public_id import new_id
from control_plane.webhooks.tables import webhook_deliveries, webhook_endpoints, webhook_messages

# Whoever publishes a new type adds it here; customers subscribe by these names.
EVENT_TYPES = ("usage.threshold_reached", "webhook.test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What happened. `data` is what the receiver gets beside type and timestamp; no secret belongs in it."""

    type: str
    data: Mapping[str, Any]
    dedupe_key: str


async def publish(connection: AsyncConnection, customer_id: UUID, message: Message, *, only: UUID | None = None) -> UUID | None:
    """The message's id; None when it is there already. `only` names one endpoint, subscribed or not."""
    endpoints = webhook_endpoints.c
    wanted = select(endpoints.id).where(endpoints.customer_id == customer_id, endpoints.is_enabled)
    if only is None:
        wanted = wanted.where(or_(endpoints.events.is_(None), literal(message.type) == any_(endpoints.events)))
    else:
        wanted = wanted.where(endpoints.id == only)
    row = {
        "id": new_id(),
        "customer_id": customer_id,
        "dedupe_key": message.dedupe_key,
        "type": message.type,
        "payload": _payload(message),
    }
    statement = insert_or(webhook_messages).values(row).on_conflict_do_nothing(index_elements=["dedupe_key"])
    if (await connection.execute(statement.returning(webhook_messages.c.id))).one_or_none() is None:
        return None
    ids = (await connection.scalars(wanted)).all()
    if ids:
        deliveries = [{"id": new_id(), "message_id": row["id"], "endpoint_id": id_} for id_ in ids]
        await connection.execute(insert(webhook_deliveries), deliveries)
    return UUID(str(row["id"]))


def _payload(message: Message) -> str:
    body = {"type": message.type, "timestamp": datetime.now(UTC), "data": dict(message.data)}
    return msgspec.json.encode(body).decode()
