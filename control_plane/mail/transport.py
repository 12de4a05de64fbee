"""Two ways out for a message: an SMTP server, or files in a folder when there is none. A transport knows no outbox.

It raises RefusedError when trying again would change nothing, and NotNowError when it may; the text of both is safe to keep.
"""

import asyncio
import os
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import parseaddr
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib
from aiosmtplib import SMTPException, SMTPNotSupported, SMTPRecipientsRefused, SMTPResponseException

from control_plane.settings import Settings, SettingsError, variable

TIMEOUT_S = 30.0
_DETAIL_CHARS = 300
_PORTS = {"smtp": 587, "smtp+plain": 25, "smtps": 465}
# RFC 5321, 4.2.5: a 5yz answer to MAIL or to the login is about us and not about this mail; an operator can mend it.
_ABOUT_THE_MAIL = 500


class Via(StrEnum):
    """How a mail left; a label of `vla_mails_total`."""

    SMTP = "smtp"
    FILE = "file"


class RefusedError(Exception):
    """The server will never take this mail."""


class NotNowError(Exception):
    """The server cannot be reached or asks to come back. `is_server` says that other mails would fare the same."""

    def __init__(self, detail: str, *, is_server: bool) -> None:
        super().__init__(detail[:_DETAIL_CHARS])
        self.is_server = is_server


class Transport(Protocol):
    """A way out."""

    @property
    def via(self) -> Via:
        """Which one."""

    async def send(self, message: EmailMessage, *, recipient: str, mail_id: str) -> None:
        """Hands the message over. Raises RefusedError or NotNowError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpTransport:
    """One connection per message, TLS by default, everything within TIMEOUT_S."""

    host: str
    port: int
    user: str | None
    password: str | None
    is_tls: bool
    is_starttls: bool
    sender: str
    tls: ssl.SSLContext | None = None
    via: Via = Via.SMTP

    async def send(self, message: EmailMessage, *, recipient: str, mail_id: str) -> None:  # noqa: ARG002 -- the seam's signature
        """Told what each failure means by which step it happened in."""
        client = aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            timeout=TIMEOUT_S,
            use_tls=self.is_tls,
            start_tls=self.is_starttls,
            tls_context=self.tls or ssl.create_default_context(),
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._connect(client)
                await self._hand_over(client, message, recipient)
        except TimeoutError:
            raise NotNowError("the mail server took too long", is_server=True) from None
        finally:
            client.close()

    async def _connect(self, client: aiosmtplib.SMTP) -> None:
        try:
            await client.connect()
            if self.user is not None:
                await client.login(self.user, self.password or "")
        except (SMTPException, OSError) as error:
            raise NotNowError(f"no session with the mail server: {_said(error)}", is_server=True) from error

    async def _hand_over(self, client: aiosmtplib.SMTP, message: EmailMessage, recipient: str) -> None:
        try:
            await client.send_message(message, sender=parseaddr(self.sender)[1], recipients=[recipient])
        except SMTPRecipientsRefused as error:
            raise _about_the_mail(error.recipients[0].code, _said(error.recipients[0])) from error
        except (aiosmtplib.SMTPDataError, SMTPNotSupported) as error:
            raise _about_the_mail(getattr(error, "code", _ABOUT_THE_MAIL), _said(error)) from error
        except (SMTPException, OSError) as error:
            raise NotNowError(_said(error), is_server=True) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderTransport:
    """Writes each message as a file that only its owner can read. The same mail again is the same file."""

    folder: Path
    via: Via = Via.FILE

    async def send(self, message: EmailMessage, *, recipient: str, mail_id: str) -> None:  # noqa: ARG002 -- the seam's signature
        """Either the whole file or none."""
        try:
            await asyncio.to_thread(self._write, message.as_bytes(), mail_id)
        except OSError as error:
            raise NotNowError(f"{error.filename or self.folder}: {error.strerror}", is_server=True) from error

    def _write(self, data: bytes, mail_id: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{mail_id}.eml"
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123 -- its mode
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)


def transport_of(settings: Settings) -> Transport:
    """The one that the settings ask for. Raises SettingsError without repeating a password."""
    if settings.smtp_url is None:
        return FolderTransport(folder=settings.outbox_dir)
    return smtp_transport(settings.smtp_url.get_secret_value(), sender=settings.mail_from)


def smtp_transport(url: str, *, sender: str) -> SmtpTransport:
    """From `smtps://user:password@host:port`. Raises SettingsError."""
    name = variable("smtp_url")
    if "@" not in parseaddr(sender)[1] or any(ord(character) < 32 for character in sender):
        raise SettingsError(f"{variable('mail_from')}: must be an address, or `Name <address>`")
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        raise SettingsError(f"{name}: the port is not a number") from None
    if port is None or not parts.hostname:
        raise SettingsError(f"{name}: must be smtps://host, smtp://host or smtp+plain://host") from None
    return _transport(parts, parts.hostname, port, sender)


def _transport(parts: SplitResult, host: str, port: int, sender: str) -> SmtpTransport:
    return SmtpTransport(
        host=host,
        port=port,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        is_tls=parts.scheme == "smtps",
        is_starttls=parts.scheme == "smtp",
        sender=sender,
    )


def _about_the_mail(code: int, said: str) -> RefusedError | NotNowError:
    if code >= _ABOUT_THE_MAIL:
        return RefusedError(said)
    return NotNowError(said, is_server=False)


def _said(error: Exception) -> str:
    if isinstance(error, SMTPResponseException):
        return f"{error.code} {error.message}"[:_DETAIL_CHARS]
    return f"{type(error).__name__}: {error}"[:_DETAIL_CHARS]
