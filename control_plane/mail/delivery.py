"""Sends what lies in the outbox: claims one mail, hands it over, writes down how it ended. Any number of workers may do so.

A claim is a lease: a worker that dies in the middle leaves a mail that is claimed again when the lease ends, so a mail goes out
at least once, with the same Message-ID. What is refused for good is dead, and said so. Called by the worker.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.db import database_errors
from control_plane.identity.public_id import public_id
from control_plane.mail.message import build
from control_plane.mail.outbox import PURPOSE, Attachment
from control_plane.mail.tables import mail_attachments, mails
from control_plane.mail.transport import NotNowError, RefusedError, Transport, Via
from control_plane.metrics import Metrics
from control_plane.sealed import SealBrokenError, unseal

_CLAIM = text("""
    UPDATE mails SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => :lease_s)
    WHERE id = (
        SELECT id FROM mails WHERE status = 'waiting' AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING *
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailPace:
    """When a mail is tried again. With these numbers a mail is given up after some three days."""

    lease_s: float = 120.0  # longer than the transport's time-out
    first_wait_s: float = 60.0
    longest_wait_s: float = 3600.0
    attempts: int = 78

    def wait_after(self, attempts: int) -> timedelta:
        """Doubling, with jitter, so that many mails do not come back at one moment."""
        ceiling_s = min(self.longest_wait_s, self.first_wait_s * 2 ** min(attempts - 1, 20))
        return timedelta(seconds=ceiling_s * random.uniform(0.7, 1.0))  # noqa: S311 -- jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What it takes to send."""

    engine: AsyncEngine
    transport: Transport
    sender: str
    pepper: bytes
    metrics: Metrics
    log: FilteringBoundLogger
    pace: MailPace = MailPace()

    async def step(self) -> None:
        """Sends what is due. Stops early while the server is away. Raises DatabaseAwayError."""
        while (row := await self._claim()) is not None:
            if not await self._send(row):
                return

    async def _claim(self) -> Row[Any] | None:
        with database_errors():
            async with self.engine.begin() as connection:
                return (await connection.execute(_CLAIM, {"lease_s": self.pace.lease_s})).one_or_none()

    async def _send(self, row: Row[Any]) -> bool:
        """False when the next mail would fail as well."""
        mail_id = public_id("mail", row.id)
        try:
            message = build(row, await self._attachments(row), sender=self.sender, secret=self._secret(row))
            await self.transport.send(message, recipient=row.recipient, mail_id=mail_id)
        except (RefusedError, SealBrokenError) as error:
            await self._die(row, str(error))
        except NotNowError as error:
            await self._later(row, str(error))
            return not error.is_server
        else:
            await self._sent(row)
        return True

    def _secret(self, row: Row[Any]) -> str | None:
        if row.sealed_secret is None:
            return None
        return unseal(row.sealed_secret, pepper=self.pepper, purpose=PURPOSE, about=row.id.bytes)

    async def _attachments(self, row: Row[Any]) -> Sequence[Attachment]:
        query = select(mail_attachments).where(mail_attachments.c.mail_id == row.id).order_by(mail_attachments.c.position)
        with database_errors():
            async with self.engine.connect() as connection:
                rows = (await connection.execute(query)).all()
        return [Attachment(filename=r.filename, media_type=r.media_type, content=r.content) for r in rows]

    async def _sent(self, row: Row[Any]) -> None:
        via = self.transport.via
        done = {"status": "sent", "sealed_secret": None, "sent_by": via.value, "sent_at": datetime.now(UTC), "last_error": None}
        await self._write(row, done)
        self.metrics.mails.labels(via.value).inc()
        if via is Via.FILE:
            self.log.warning("no mail server is set: mail written to a file", mail=public_id("mail", row.id))
        else:
            self.log.info("mail sent", mail=public_id("mail", row.id), attempts=row.attempts)

    async def _later(self, row: Row[Any], detail: str) -> None:
        if row.attempts >= self.pace.attempts:
            await self._die(row, detail)
            return
        await self._write(row, {"last_error": detail, "next_attempt_at": datetime.now(UTC) + self.pace.wait_after(row.attempts)})
        self.metrics.mails.labels("retried").inc()
        self.log.warning("mail waits", mail=public_id("mail", row.id), attempts=row.attempts)

    async def _die(self, row: Row[Any], detail: str) -> None:
        await self._write(row, {"status": "dead", "last_error": detail})
        self.metrics.mails.labels("dead").inc()
        self.log.error("mail is dead", mail=public_id("mail", row.id), attempts=row.attempts)

    async def _write(self, row: Row[Any], values: dict[str, Any]) -> None:
        # Another worker may have sent it since our lease ended: what is sent stays so.
        statement = update(mails).where(mails.c.id == row.id, mails.c.status != "sent").values(values)
        with database_errors():
            async with self.engine.begin() as connection:
                await connection.execute(statement)
