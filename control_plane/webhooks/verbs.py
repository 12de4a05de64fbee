"""What can be done with webhook endpoints and deliveries. Another customer's is one that does not exist.

Signing secrets lie sealed under the pepper and are told once, when they are made. Every change is in the audit log.
"""

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.audit.record import Change, record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.verbs import Stores, no_such
from control_plane.sealed import seal
from control_plane.webhooks.publish import EVENT_TYPES, Message, publish
from control_plane.webhooks.tables import webhook_attempts, webhook_deliveries, webhook_endpoints, webhook_messages

PURPOSE = "webhook"
MAX_ENDPOINTS = 10
OLD_SECRET_FOR = timedelta(hours=24)
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoint:
    """What is chosen about an endpoint; `url` was checked. `events` None: all types."""

    url: str
    description: str = ""
    events: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WithSecret:
    """An endpoint at the one moment at which its new secret is told."""

    endpoint: Row[Any]
    secret: str


async def create_endpoint(stores: Stores, customer_id: UUID, new: NewEndpoint) -> WithSecret:
    """At most MAX_ENDPOINTS each."""
    id_, secret = new_id(), _mint()
    values = {
        "id": id_,
        "customer_id": customer_id,
        "url": new.url,
        "description": new.description,
        "events": clean_events(new.events),
        "sealed_secret": _sealed(stores, id_, secret),
    }
    with database_errors():
        async with stores.engine.begin() as connection:
            # The customer's row is the lock: two creations at once cannot both be the tenth.
            await connection.execute(text("SELECT 1 FROM customer_accounts WHERE id = :id FOR UPDATE"), {"id": customer_id})
            count = select(func.count()).select_from(webhook_endpoints).where(webhook_endpoints.c.customer_id == customer_id)
            if (await connection.scalar(count) or 0) >= MAX_ENDPOINTS:
                raise ApiError("invalid_field", f"there are {MAX_ENDPOINTS} webhooks already.", param="url")
            row = (await connection.execute(insert(webhook_endpoints).values(values).returning(webhook_endpoints))).one()
            await _told(connection, stores, "webhook.create", row, after={"url": new.url, "events": new.events})
    return WithSecret(endpoint=row, secret=secret)


async def list_endpoints(engine: AsyncEngine, customer_id: UUID) -> Sequence[Row[Any]]:
    """Oldest first."""
    query = select(webhook_endpoints).where(webhook_endpoints.c.customer_id == customer_id).order_by(webhook_endpoints.c.id)
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(query)).all()


async def change_endpoint(stores: Stores, customer_id: UUID, endpoint_id: UUID, changes: Mapping[str, Any]) -> Row[Any]:
    """Another url (checked before), description, events, or switched on and off."""
    if not changes:
        raise ApiError("missing_field", "say what to change.", param="webhook")
    values = dict(changes)
    if "events" in values:
        values["events"] = clean_events(values["events"])
    with database_errors():
        async with stores.engine.begin() as connection:
            before = await _locked(connection, customer_id, endpoint_id)
            row = await _update(connection, endpoint_id, values)
            old = {name: getattr(before, name) for name in values}
            await _told(connection, stores, "webhook.change", row, before=old, after=values)
    return row


async def rotate_secret(stores: Stores, customer_id: UUID, endpoint_id: UUID) -> WithSecret:
    """A new secret; for a day every message carries a signature of each."""
    secret = _mint()
    with database_errors():
        async with stores.engine.begin() as connection:
            before = await _locked(connection, customer_id, endpoint_id)
            values = {
                "sealed_secret": _sealed(stores, endpoint_id, secret),
                "sealed_old_secret": before.sealed_secret,
                "old_secret_until": datetime.now(UTC) + OLD_SECRET_FOR,
            }
            row = await _update(connection, endpoint_id, values)
            await _told(connection, stores, "webhook.rotate", row)
    return WithSecret(endpoint=row, secret=secret)


async def delete_endpoint(stores: Stores, customer_id: UUID, endpoint_id: UUID) -> None:
    """Together with what waits for it."""
    with database_errors():
        async with stores.engine.begin() as connection:
            row = await _locked(connection, customer_id, endpoint_id)
            await connection.execute(delete(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id))
            await _told(connection, stores, "webhook.delete", row, before={"url": row.url})


async def send_test(stores: Stores, customer_id: UUID, endpoint_id: UUID) -> UUID:
    """A message of the type `webhook.test` to this endpoint only."""
    message = Message(type="webhook.test", data={"hello": "robots"}, dedupe_key=f"webhook.test {new_id().hex}")
    with database_errors():
        async with stores.engine.begin() as connection:
            row = await _locked(connection, customer_id, endpoint_id)
            if not row.is_enabled:
                raise ApiError("invalid_field", "this webhook is switched off.", param="webhook")
            message_id = await publish(connection, customer_id, message, only=endpoint_id)
    if message_id is None:
        raise RuntimeError("a new id was taken")
    return message_id


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries; None asks nothing."""

    customer_id: UUID | None = None
    endpoint_id: UUID | None = None
    status: str | None = None
    before_id: UUID | None = None


async def list_deliveries(engine: AsyncEngine, wanted: DeliveryFilter, *, limit: int) -> Sequence[Row[Any]]:
    """Newest first, with the message's type."""
    deliveries, endpoints = webhook_deliveries.c, webhook_endpoints.c
    query = (
        select(webhook_deliveries, endpoints.url, endpoints.customer_id, webhook_messages.c.type)
        .join(webhook_endpoints, endpoints.id == deliveries.endpoint_id)
        .join(webhook_messages, webhook_messages.c.id == deliveries.message_id)
        .order_by(deliveries.id.desc())
        .limit(limit)
    )
    for column, value in (
        (endpoints.customer_id, wanted.customer_id),
        (deliveries.endpoint_id, wanted.endpoint_id),
        (deliveries.status, wanted.status),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.before_id is not None:
        query = query.where(deliveries.id < wanted.before_id)
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(query)).all()


async def list_attempts(engine: AsyncEngine, delivery_id: UUID, *, customer_id: UUID | None = None) -> Sequence[Row[Any]]:
    """Every attempt of one delivery, oldest first."""
    query = select(webhook_attempts).where(webhook_attempts.c.delivery_id == delivery_id).order_by(webhook_attempts.c.id)
    with database_errors():
        async with engine.connect() as connection:
            await _owned(connection, delivery_id, customer_id)
            return (await connection.execute(query)).all()


async def replay_delivery(stores: Stores, delivery_id: UUID, *, customer_id: UUID | None = None) -> Row[Any]:
    """Sends it again, whatever became of it, with the same message id. Attempts so far stay in the list."""
    again = update(webhook_deliveries).where(webhook_deliveries.c.id == delivery_id)
    again = again.values(status="waiting", attempts=0, next_attempt_at=datetime.now(UTC), last_error=None, delivered_at=None)
    with database_errors():
        async with stores.engine.begin() as connection:
            row = await _owned(connection, delivery_id, customer_id)
            await connection.execute(again)
            change = Change(action="webhook.replay", target=public_id("whd", delivery_id), customer_id=row.customer_id)
            await record(connection, stores.by, change)
    (told,) = await list_deliveries(
        stores.engine, DeliveryFilter(endpoint_id=row.endpoint_id, before_id=UUID(int=delivery_id.int + 1)), limit=1
    )
    return told


def clean_events(events: Sequence[str] | None) -> list[str] | None:
    """Known types, each once. Raises ApiError naming `events`."""
    if events is None:
        return None
    unknown = sorted(set(events) - set(EVENT_TYPES))
    if unknown or not events:
        raise ApiError("invalid_field", f"events must be some of {', '.join(EVENT_TYPES)}.", param="events")
    return sorted(set(events))


def _mint() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _sealed(stores: Stores, endpoint_id: UUID, secret: str) -> bytes:
    return seal(secret, pepper=stores.pepper, purpose=PURPOSE, about=endpoint_id.bytes)


async def _locked(connection: AsyncConnection, customer_id: UUID, endpoint_id: UUID) -> Row[Any]:
    is_it: ColumnElement[bool] = (webhook_endpoints.c.id == endpoint_id) & (webhook_endpoints.c.customer_id == customer_id)
    row = (await connection.execute(select(webhook_endpoints).where(is_it).with_for_update())).one_or_none()
    if row is None:
        raise no_such("webhook", public_id("whe", endpoint_id))
    return row


async def _owned(connection: AsyncConnection, delivery_id: UUID, customer_id: UUID | None) -> Row[UUID, UUID, UUID]:
    """Whose a delivery is, and for which endpoint. Another customer's is one that does not exist."""
    endpoints = webhook_endpoints.c
    query = select(webhook_deliveries.c.id, endpoints.customer_id, endpoints.id.label("endpoint_id")).join(
        webhook_endpoints, endpoints.id == webhook_deliveries.c.endpoint_id
    )
    row = (await connection.execute(query.where(webhook_deliveries.c.id == delivery_id))).one_or_none()
    if row is None or customer_id not in (None, row.customer_id):
        raise no_such("delivery", public_id("whd", delivery_id))
    return row


async def _update(connection: AsyncConnection, endpoint_id: UUID, values: Mapping[str, Any]) -> Row[Any]:
    statement = update(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id).values(values)
    row: Row[Any] = (await connection.execute(statement.returning(webhook_endpoints))).one()
    return row


async def _told(connection: AsyncConnection, stores: Stores, action: str, row: Row[Any], **fields: Any) -> None:
    change = Change(action=action, target=public_id("whe", row.id), customer_id=row.customer_id, **fields)
    await record(connection, stores.by, change)
