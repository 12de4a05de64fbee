"""What can be done with API keys. Each verb is one transaction, then an announcement to every running process.

The announcement may fail (Redis is away): what was committed stays committed, the result says so, and processes notice within the
seconds that they believe a key. A verb that is given a `customer_id` treats another customer's key as one that does not exist.
Raises ApiError for bad values and unknown ids, DatabaseAwayError when nothing could be done. Knows no HTTP and no command line.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, Row, Select, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.audit.record import By, Change, record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity import known_keys
from control_plane.identity.api_key import digest_of, mint_key, start_of
from control_plane.identity.data_policy import DataPolicy
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.fields import clean_data_policy, clean_name, clean_names, clean_networks, clean_robots, positive
from control_plane.keys.tables import api_keys
from control_plane.redis import REDIS_AWAY

MAX_NAME = 100
MAX_DAYS = 3650
MAX_OVERLAP = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What every verb works on, and on whose behalf. The pepper must be the one that the API processes have."""

    engine: AsyncEngine
    redis: Redis
    pepper: bytes
    by: By = field(default_factory=By)  # whom the audit log names


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What is chosen about a key. `per_minute` is a cap of its own, below the customer's; a list of None restricts nothing."""

    name: str = "default"
    per_minute: int | None = None
    expires_in_days: int | None = None
    is_test: bool = False
    robots: Collection[str] | None = None
    policies: Collection[str] | None = None
    allowed_ips: Collection[str] | None = None
    data_policy: DataPolicy | None = None  # keeps less than the customer's, where it does


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySummary:
    """A key as lists show it."""

    id: UUID
    customer_id: UUID
    start: str
    name: str
    is_test: bool
    per_minute: int | None
    robots: tuple[str, ...] | None
    policies: tuple[str, ...] | None
    allowed_ips: tuple[str, ...] | None
    data_policy: str | None
    rotated_from: UUID | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  # to the minute
    created_at: datetime


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
    is_test: bool = False
    robots: tuple[str, ...] | None = None
    policies: tuple[str, ...] | None = None
    allowed_ips: tuple[str, ...] | None = None
    data_policy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A new key, and whether running processes were told."""

    key: IssuedKey
    is_announced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A key after a change, and whether running processes were told."""

    key: KeySummary
    is_announced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The new key, the old one with the time of its end, and whether running processes were told."""

    key: IssuedKey
    old: KeySummary
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


async def issue(
    connection: AsyncConnection, customer_id: UUID, new: NewKey, *, pepper: bytes, rotated_from: UUID | None = None
) -> IssuedKey:
    """Mints and stores a key inside the caller's transaction."""
    key_text = mint_key(is_test=new.is_test)
    days = positive(new.expires_in_days, field="expires_in_days", at_most=MAX_DAYS)
    key = IssuedKey(
        id=new_id(),
        text=key_text,
        start=start_of(key_text),
        name=clean_name(new.name, field="key_name", max_length=MAX_NAME),
        per_minute=positive(new.per_minute, field="key_per_minute"),
        expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
        digest=digest_of(key_text, pepper=pepper),
        is_test=new.is_test,
        robots=clean_robots(new.robots),
        policies=clean_names(new.policies, field="policies"),
        allowed_ips=clean_networks(new.allowed_ips),
        data_policy=new.data_policy,
    )
    columns = ("id", "digest", "start", "expires_at", *_CARRIED_OVER)
    row = {column: getattr(key, column) for column in columns}
    await connection.execute(insert(api_keys).values(row | {"customer_id": customer_id, "rotated_from": rotated_from}))
    return key


async def rotate_key(
    stores: Stores, key_id: UUID, *, overlap: timedelta, expires_in_days: int | None = None, customer_id: UUID | None = None
) -> Rotated:
    """A new key like the old one, at once; the old one ends after `overlap`, in every process. One key is replaced once.

    Without `expires_in_days` the new key lives as long as the old one was given to live.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise ApiError("invalid_field", f"overlap must be from 0 to {MAX_OVERLAP.days} days.", param="overlap")
    now = datetime.now(UTC)
    with database_errors():
        async with stores.engine.begin() as connection:
            old = await _locked(connection, key_id, customer_id)
            await _require_rotatable(connection, old, now)
            ends_at = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
            days = _days_given(old) if expires_in_days is None else expires_in_days
            new = NewKey(expires_in_days=days, **{name: getattr(old, name) for name in _CARRIED_OVER})
            key = await issue(connection, old.customer_id, new, pepper=stores.pepper, rotated_from=old.id)
            ended = await _update(connection, old.id, {"expires_at": ends_at})
            await record(connection, stores.by, _told("key.rotate", old, ended, successor=public_id("key", key.id)))
            await record(connection, stores.by, key_created(old.customer_id, key))
    return Rotated(key=key, old=_summary(ended), is_announced=await announce(stores.redis, [old.digest, key.digest]))


async def revoke_key(stores: Stores, key_id: UUID, *, customer_id: UUID | None = None) -> Changed:
    """Ends a key for good. Revoking again changes nothing and announces again."""
    with database_errors():
        async with stores.engine.begin() as connection:
            old = row = await _locked(connection, key_id, customer_id)
            if row.revoked_at is None:
                row = await _update(connection, key_id, {"revoked_at": datetime.now(UTC)})
            await record(connection, stores.by, _told("key.revoke", old, row))
    return Changed(key=_summary(row), is_announced=await announce(stores.redis, [row.digest]))


async def change_key(stores: Stores, key_id: UUID, changes: Mapping[str, Any], *, customer_id: UUID | None = None) -> Changed:
    """Another name, cap, scope or allow list, from the next request on. What is not named stays; None lifts a restriction."""
    unknown = sorted(set(changes) - set(_CLEAN))
    if unknown or not changes:
        raise ApiError("invalid_field", f"a key has, for changing, {', '.join(_CLEAN)}.", param=unknown[0] if unknown else "key")
    values = {name: _CLEAN[name](value) for name, value in changes.items()}
    with database_errors():
        async with stores.engine.begin() as connection:
            old = await _locked(connection, key_id, customer_id)
            row = await _update(connection, key_id, values)
            await record(connection, stores.by, _told("key.change", old, row))
    return Changed(key=_summary(row), is_announced=await announce(stores.redis, [row.digest]))


def key_created(customer_id: UUID, key: IssuedKey) -> Change:
    """What the audit log says of a new key."""
    after = {"start": key.start, **{name: getattr(key, name) for name in (*_CARRIED_OVER, "expires_at")}}
    return Change(action="key.create", target=public_id("key", key.id), customer_id=customer_id, after=after)


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


_CARRIED_OVER = ("name", "per_minute", "is_test", "robots", "policies", "allowed_ips", "data_policy")
_CLEAN: Mapping[str, Callable[[Any], object]] = {
    "name": lambda name: clean_name(name, field="key_name", max_length=MAX_NAME),
    "per_minute": lambda number: positive(number, field="key_per_minute"),
    "robots": clean_robots,
    "policies": lambda names: clean_names(names, field="policies"),
    "allowed_ips": clean_networks,
    "data_policy": clean_data_policy,
}


def _told(action: str, old: Row[Any], new: Row[Any], **more: str) -> Change:
    """What the audit log says of a change: the start, and the fields that differ."""
    told = (*_CARRIED_OVER, "expires_at", "revoked_at")
    before = {name: getattr(old, name) for name in told if getattr(old, name) != getattr(new, name)}
    after = {"start": new.start, **{name: getattr(new, name) for name in before}, **more}
    return Change(action=action, target=public_id("key", new.id), customer_id=new.customer_id, before=before, after=after)


async def _locked(connection: AsyncConnection, key_id: UUID, customer_id: UUID | None) -> Row[Any]:
    is_it: ColumnElement[bool] = api_keys.c.id == key_id
    if customer_id is not None:
        is_it &= api_keys.c.customer_id == customer_id
    row = (await connection.execute(select(api_keys).where(is_it).with_for_update())).one_or_none()
    if row is None:
        raise no_such("key", public_id("key", key_id))
    return row


async def _update(connection: AsyncConnection, key_id: UUID, values: Mapping[str, Any]) -> Row[Any]:
    statement = update(api_keys).where(api_keys.c.id == key_id).values(values).returning(api_keys)
    row: Row[Any] = (await connection.execute(statement)).one()
    return row


async def _require_rotatable(connection: AsyncConnection, old: Row[Any], now: datetime) -> None:
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise ApiError("invalid_field", "key has ended already; create a new one.", param="key")
    successor = await connection.scalar(select(api_keys.c.id).where(api_keys.c.rotated_from == old.id))
    if successor is not None:
        raise ApiError("invalid_field", f"key was rotated already; {public_id('key', successor)} replaces it.", param="key")


def _days_given(old: Row[Any]) -> int | None:
    """For how many days the old key was made."""
    if old.expires_at is None:
        return None
    lifetime: timedelta = old.expires_at - old.created_at
    return min(MAX_DAYS, max(1, round(lifetime / timedelta(days=1))))


def _summary(row: Row[Any]) -> KeySummary:
    lists: dict[str, Any] = {
        name: None if (value := getattr(row, name)) is None else tuple(value) for name in ("robots", "policies", "allowed_ips")
    }
    plain = (name for name in KeySummary.__dataclass_fields__ if name not in lists)
    return KeySummary(**lists, **{name: getattr(row, name) for name in plain})
