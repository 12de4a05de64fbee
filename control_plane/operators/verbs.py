"""What can be done with operator keys: create, list, revoke, and look one up. On the command line only: no key makes another.

A key is looked up in PostgreSQL on every call, so a revoked one ends at once. Fails closed when the database is away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.audit.record import Change, record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.api_key import digest_of
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.fields import clean_name, positive
from control_plane.keys.verbs import MAX_DAYS, MAX_NAME, Stores, no_such
from control_plane.operators.operator_key import is_operator_key, mint_operator_key, start_of
from control_plane.operators.roles import Role, Viewer, operator_of
from control_plane.operators.tables import operator_keys

_SCHEME = "bearer"
_TOUCH = text("""
    UPDATE operator_keys SET last_used_at = now()
    WHERE id = :id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSummary:
    """An operator's key as lists show it."""

    id: UUID
    name: str
    role: Role
    start: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedOperator:
    """A new key at the one moment at which its text exists."""

    operator: OperatorSummary
    text: str


_SHOWN = tuple(operator_keys.c[name] for name in OperatorSummary.__dataclass_fields__)


async def create_operator(stores: Stores, *, name: str, role: Role, expires_in_days: int | None) -> CreatedOperator:
    """A key for one more operator, person or program."""
    days = positive(expires_in_days, field="expires_in_days", at_most=MAX_DAYS)
    key = mint_operator_key()
    values = {
        "id": new_id(),
        "name": clean_name(name, field="name", max_length=MAX_NAME),
        "role": role.value,
        "digest": digest_of(key, pepper=stores.pepper),
        "start": start_of(key),
        "expires_at": None if days is None else datetime.now(UTC) + timedelta(days=days),
    }
    with database_errors():
        async with stores.engine.begin() as connection:
            row = (await connection.execute(insert(operator_keys).values(values).returning(*_SHOWN))).one()
            after = {"name": row.name, "role": row.role, "start": row.start, "expires_at": row.expires_at}
            await record(connection, stores.by, Change(action="operator.create", target=public_id("opr", row.id), after=after))
    return CreatedOperator(operator=_summary(row._mapping), text=key)


async def list_operators(engine: AsyncEngine) -> Sequence[OperatorSummary]:
    """All of them, oldest first."""
    with database_errors():
        async with engine.connect() as connection:
            rows = await connection.execute(select(*_SHOWN).order_by(operator_keys.c.id))
            return [_summary(row._mapping) for row in rows]


async def revoke_operator(stores: Stores, operator_id: UUID) -> OperatorSummary:
    """Ends a key for good, from the next call on. Revoking again changes nothing."""
    is_the_key = operator_keys.c.id == operator_id
    revoke = update(operator_keys).where(is_the_key, operator_keys.c.revoked_at.is_(None)).values(revoked_at=datetime.now(UTC))
    with database_errors():
        async with stores.engine.begin() as connection:
            is_changed = (await connection.execute(revoke.returning(operator_keys.c.id))).one_or_none() is not None
            row = (await connection.execute(select(*_SHOWN).where(is_the_key))).one_or_none()
            if row is None:
                raise no_such("operator", public_id("opr", operator_id))
            if is_changed:
                await record(connection, stores.by, Change(action="operator.revoke", target=public_id("opr", operator_id)))
    return _summary(row._mapping)


async def authenticate_operator(engine: AsyncEngine, pepper: bytes, authorization: str | None) -> Viewer:
    """Who calls. Raises ApiError: missing_key, malformed_key, unknown_key, revoked_key, expired_key; DatabaseAwayError."""
    scheme, _, key = (authorization or "").strip().partition(" ")
    if scheme.lower() != _SCHEME or not key.strip():
        raise _refused("missing_key", "Send your operator key as 'Authorization: Bearer vla_admin_…'.")
    if not is_operator_key(key := key.strip()):
        raise _refused("malformed_key", "That is not an operator key; customers' keys open nothing here.")
    query = select(*_SHOWN).where(operator_keys.c.digest == digest_of(key, pepper=pepper))
    with database_errors():
        async with engine.begin() as connection:
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise _refused("unknown_key")
            if row.revoked_at is not None:
                raise _refused("revoked_key")
            if row.expires_at is not None and row.expires_at <= datetime.now(UTC):
                raise _refused("expired_key")
            await connection.execute(_TOUCH, {"id": row.id})
    return operator_of(Role(row.role), id_=row.id, name=row.name)


def _refused(code: str, message: str | None = None) -> ApiError:
    return ApiError(code, message, headers={"WWW-Authenticate": "Bearer"})


def _summary(row: object) -> OperatorSummary:
    fields = dict(row)  # type: ignore[call-overload]  # a RowMapping
    return OperatorSummary(**fields | {"role": Role(fields["role"])})
