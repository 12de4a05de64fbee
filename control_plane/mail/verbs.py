"""What an operator can do with the outbox: look at it, and send dead mails again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.audit.record import Change, record
from control_plane.db import database_errors
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import Stores, no_such
from control_plane.mail.tables import mails

STATUSES = ("waiting", "sent", "dead")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSummary:
    """A mail as lists show it: never its text, which may hold what concerns only the receiver."""

    id: UUID
    recipient: str
    subject: str
    status: str
    attempts: int
    next_attempt_at: datetime
    last_error: str | None
    sent_by: str | None
    sent_at: datetime | None
    created_at: datetime


_SHOWN = tuple(mails.c[name] for name in MailSummary.__dataclass_fields__)


async def list_mails(engine: AsyncEngine, *, status: str | None, before_id: UUID | None, limit: int) -> Sequence[MailSummary]:
    """Newest first."""
    query = select(*_SHOWN).order_by(mails.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(mails.c.status == status)
    if before_id is not None:
        query = query.where(mails.c.id < before_id)
    with database_errors():
        async with engine.connect() as connection:
            return [MailSummary(**row._mapping) for row in await connection.execute(query)]


async def replay_mail(stores: Stores, mail_id: UUID) -> MailSummary:
    """Tries a mail that is dead, or waits, again from the beginning. One that was sent stays as it is."""
    again = update(mails).where(mails.c.id == mail_id, mails.c.status != "sent")
    again = again.values(status="waiting", attempts=0, next_attempt_at=datetime.now(UTC))
    with database_errors():
        async with stores.engine.begin() as connection:
            is_changed = (await connection.execute(again.returning(mails.c.id))).one_or_none() is not None
            row = (await connection.execute(select(*_SHOWN).where(mails.c.id == mail_id))).one_or_none()
            if row is None:
                raise no_such("mail", public_id("mail", mail_id))
            if is_changed:
                await record(connection, stores.by, Change(action="mail.replay", target=public_id("mail", mail_id)))
    return MailSummary(**row._mapping)
