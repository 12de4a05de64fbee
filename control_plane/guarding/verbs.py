"""What can be done with a customer's safety settings: read, change, clear, and read who changed them.

Each change is one transaction that also writes its history and its line of the audit log, then an announcement about every key of
the customer, so that every API process works with it within a second. What would loosen anything is refused here, before
it is stored. Raises ApiError, and DatabaseAwayError when nothing could be done; what was committed stays so when Redis is away.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.audit.record import Change as AuditChange
from control_plane.audit.record import record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.guarding.fields import Settings, refusal
from control_plane.guarding.guards import check_settings
from control_plane.guarding.tables import safety_settings, safety_settings_changes
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import Stores, announce, no_such
from safety.profile import Preset, RobotProfile

DOCUMENT_BYTES_MAX = 64_000
_LOCK = text("SELECT 1 FROM customer_accounts WHERE id = :id FOR NO KEY UPDATE")
_DIGESTS = text("SELECT digest FROM api_keys WHERE customer_id = :id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is chosen. `preset` None: the deployment's; only an operator may choose another."""

    settings: Settings = field(default_factory=Settings)
    preset: Preset | None = None

    @property
    def is_empty(self) -> bool:
        """True when nothing of it is the customer's own."""
        return self.preset is None and self.settings.is_empty

    def as_json(self) -> dict[str, Any]:
        """As the history keeps it."""
        return {"settings": msgspec.to_builtins(self.settings), "preset": None if self.preset is None else self.preset.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What holds now. `version` 0: never set."""

    content: Content = field(default_factory=Content)
    version: int = 0
    changed_by: str | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What holds after a change, and whether running processes were told."""

    stored: Stored
    is_announced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of the history."""

    version: int
    changed_at: datetime
    changed_by: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A change somebody wants. `edit` is given what holds at that moment, inside the transaction."""

    by: str  # "key_…" or "operator …"
    edit: Callable[[Content], Content]
    expected_version: int | None = None  # refused with settings_changed when another one holds


async def read_settings(engine: AsyncEngine, customer_id: UUID) -> Stored:
    """What holds for this customer."""
    with database_errors():
        async with engine.connect() as connection:
            return await _stored(connection, customer_id)


async def change_settings(
    stores: Stores, customer_id: UUID, wish: Wish, *, profiles: Mapping[str, RobotProfile], preset: Preset = Preset.REDUCED
) -> Changed:
    """The customer's layer after the wish. `preset` is what holds where the customer has none. Changing nothing is no change."""
    with database_errors():
        async with stores.engine.begin() as connection:
            if await connection.scalar(_LOCK, {"id": customer_id}) is None:
                raise no_such("customer", public_id("cus", customer_id))
            before = await _stored(connection, customer_id)
            if wish.expected_version not in {None, before.version}:
                raise ApiError("settings_changed", f"Version {before.version} holds now.", param="version")
            after = wish.edit(before.content)
            _check(after, profiles, preset)
            if after == before.content:
                return Changed(stored=before, is_announced=True)
            stored = await _store(connection, customer_id, before, after, by=wish.by)
            await record(connection, stores.by, _audited(customer_id, before, stored))
            digests = (await connection.scalars(_DIGESTS, {"id": customer_id})).all()
    return Changed(stored=stored, is_announced=await announce(stores.redis, digests))


async def list_changes(engine: AsyncEngine, customer_id: UUID, *, limit: int = 100) -> Sequence[Change]:
    """The history, newest first."""
    table = safety_settings_changes
    query = select(table).where(table.c.customer_id == customer_id).order_by(table.c.version.desc()).limit(limit)
    with database_errors():
        async with engine.connect() as connection:
            return [
                Change(
                    version=row.version,
                    changed_at=row.changed_at,
                    changed_by=row.changed_by,
                    before=row.before,
                    after=row.after,
                )
                for row in await connection.execute(query)
            ]


def _audited(customer_id: UUID, before: Stored, after: Stored) -> AuditChange:
    """What the audit log says: the same as our own history, beside everything else that was changed."""
    return AuditChange(
        action="safety.clear" if after.content.is_empty else "safety.set",
        target=public_id("cus", customer_id),
        customer_id=customer_id,
        before=before.content.as_json() | {"version": before.version},
        after=after.content.as_json() | {"version": after.version},
    )


def _check(content: Content, profiles: Mapping[str, RobotProfile], preset: Preset) -> None:
    try:
        msgspec.convert(msgspec.to_builtins(content.settings), Settings)  # the bounds, whoever made it
    except msgspec.ValidationError as error:
        raise refusal("settings", str(error)) from None
    check_settings(content.settings, profiles, content.preset or preset, path="settings")
    size = len(msgspec.json.encode(content.settings))
    if size > DOCUMENT_BYTES_MAX:
        raise refusal("settings", f"{size} bytes are more than {DOCUMENT_BYTES_MAX}")


async def _stored(connection: AsyncConnection, customer_id: UUID) -> Stored:
    table = safety_settings
    row: Row[Any] | None = (await connection.execute(select(table).where(table.c.customer_id == customer_id))).one_or_none()
    if row is None:
        return Stored()
    return Stored(
        content=Content(
            settings=msgspec.convert(row.document, Settings), preset=None if row.preset is None else Preset(row.preset)
        ),
        version=row.version,
        changed_by=row.changed_by,
        changed_at=row.changed_at,
    )


async def _store(connection: AsyncConnection, customer_id: UUID, before: Stored, after: Content, *, by: str) -> Stored:
    told = after.as_json()
    values = {
        "version": before.version + 1,
        "document": told["settings"],
        "preset": told["preset"],
        "is_cleared": after.is_empty,
        "changed_by": by,
        "changed_at": text("clock_timestamp()"),
    }
    statement = insert(safety_settings).values(customer_id=customer_id, **values)
    statement = statement.on_conflict_do_update(index_elements=["customer_id"], set_=values)
    row = (await connection.execute(statement.returning(safety_settings.c.changed_at))).one()
    line = {"customer_id": customer_id, "version": before.version + 1, "changed_by": by, "changed_at": row.changed_at}
    history = insert(safety_settings_changes).values(**line, before=before.content.as_json(), after=told)
    await connection.execute(history)
    return Stored(content=after, version=before.version + 1, changed_by=by, changed_at=row.changed_at)
