"""What can be done with API keys. Each verb is one transaction, then an announcement to every running process.

The announcement may fail (Redis is away): what was committed stays committed, the result says so, and processes notice within the
seconds that they believe a key. Raises ApiError for bad values and unknown ids, DatabaseAwayError when nothing could be done.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy import Row, Select, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.audit.record import By, Change, record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity import known_keys
from control_plane.identity.api_key import digest_of, mint_key, start_of
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.fields import clean_name, positive
from control_plane.keys.tables import api_keys
from control_plane.redis import REDIS_AWAY

MAX_NAME = 100
MAX_DAYS = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What every verb works on, and on whose behalf. The pepper must be the one that the API processes have."""

    engine: AsyncEngine
    redis: Redis
    pepper: bytes
    by: By = field(default_factory=By)  # whom the audit log names


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What is chosen about a key. `per_minute` is a cap of its own, below the customer's."""

    name: str = "default"
    per_minute: int | None = None
    expires_in_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A key at the one moment at which its text exists."""

    id: UUID
    text: str
    start: str
    name: str
    per_minute: int | None
    expires_at: datetime | None
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySummary:
    """A key as lists show it."""

    id: UUID
    customer_id: UUID
    start: str
    name: str
    per_minute: int | None
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A new key, and whether running processes were told."""

    key: IssuedKey
    is_announced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A key that is revoked now, and whether running processes were told."""

    key: KeySummary
    is_announced: bool


async def create_key(stores: Stores, customer_id: UUID, new: NewKey) -> Created:
    """One more key for a customer."""
    with database_errors():
        async with stores.engine.begin() as connection:
            found = await connection.scalar(
                text("SELECT 1 FROM customer_accounts WHERE id = :id FOR KEY SHARE"), {"id": customer_id}
            )
            if found is None:
                raise no_such("customer", public_id("cus", customer_id))
            key = await issue(connection, customer_id, new, pepper=stores.pepper)
            await record(connection, stores.by, key_created(customer_id, key))
    return Created(key=key, is_announced=await announce(stores.redis, [key.digest]))


async def issue(connection: AsyncConnection, customer_id: UUID, new: NewKey, *, pepper: bytes) -> IssuedKey:
    """Mints and stores a key inside the caller's transaction."""
    key_text = mint_key()
    days = positive(new.expires_in_days, field="expires_in_days", at_most=MAX_DAYS)
    key = IssuedKey(
        id=new_id(),
        text=key_text,
        start=start_of(key_text),
        name=clean_name(new.name, field="key_name", max_length=MAX_NAME),
        per_minute=positive(new.per_minute, field="key_per_minute"),
        expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
        digest=digest_of(key_text, pepper=pepper),
    )
    row = {"id": key.id, "customer_id": customer_id, "digest": key.digest, "start": key.start, "name": key.name}
    await connection.execute(insert(api_keys).values(row | {"per_minute": key.per_minute, "expires_at": key.expires_at}))
    return key


def key_created(customer_id: UUID, key: IssuedKey) -> Change:
    """What the audit log says of a new key."""
    after = {"start": key.start, "name": key.name, "per_minute": key.per_minute, "expires_at": key.expires_at}
    return Change(action="key.create", target=public_id("key", key.id), customer_id=customer_id, after=after)


async def revoke_key(stores: Stores, key_id: UUID) -> Revoked:
    """Ends a key for good. Revoking again changes nothing and announces again."""
    statement = update(api_keys).where(api_keys.c.id == key_id)
    with database_errors():
        async with stores.engine.begin() as connection:
            await connection.execute(statement.where(api_keys.c.revoked_at.is_(None)).values(revoked_at=datetime.now(UTC)))
            row = (await connection.execute(select(api_keys).where(api_keys.c.id == key_id))).one_or_none()
            if row is None:
                raise no_such("key", public_id("key", key_id))
            after = {"start": row.start, "revoked_at": row.revoked_at}
            await record(
                connection,
                stores.by,
                Change(action="key.revoke", target=public_id("key", key_id), customer_id=row.customer_id, after=after),
            )
    return Revoked(key=_summary(row), is_announced=await announce(stores.redis, [row.digest]))


async def list_keys(engine: AsyncEngine, customer_id: UUID | None = None) -> Sequence[KeySummary]:
    """All keys, or one customer's, oldest first."""
    query: Select[Any] = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
    if customer_id is not None:
        query = query.where(api_keys.c.customer_id == customer_id)
    with database_errors():
        async with engine.connect() as connection:
            return [_summary(row) for row in await connection.execute(query)]


async def announce(redis: Redis, digests: Iterable[bytes]) -> bool:
    """Tells every running process that these keys have changed; False when Redis is away."""
    try:
        await known_keys.announce(redis, digests)
    except REDIS_AWAY:
        return False
    return True


def no_such(what: str, id_: str) -> ApiError:
    """For an id that nothing has."""
    return ApiError("not_found", f"there is no {what} {id_}.", param=what)


def _summary(row: Row[Any]) -> KeySummary:
    return KeySummary(
        id=row.id,
        customer_id=row.customer_id,
        start=row.start,
        name=row.name,
        per_minute=row.per_minute,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        created_at=row.created_at,
    )
