"""Puts an e-mail into the outbox, in the caller's transaction: it goes out if and only if what it tells of is committed.

The same `dedupe_key` again is the same mail. A secret (a new API key) is sealed under the pepper, put in place of `SECRET` when
the mail is sent, and wiped then. Refuses line breaks in anything that becomes a header. Knows no SMTP.
"""

import re
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id
from control_plane.keys.fields import clean_email, clean_name
from control_plane.mail.tables import mail_attachments, mails
from control_plane.sealed import seal

SECRET = "[[secret]]"  # noqa: S105 -- the mark of the place, not a secret
PURPOSE = "mail"
MAX_ATTACHMENTS = 10
MAX_ATTACHMENT_BYTES = 10_000_000  # all of one mail together; many servers take 25 MB after base64
MAX_BODY_CHARACTERS = 200_000
_MAX_SUBJECT = 200
_MAX_DEDUPE_KEY = 300
_NOT_IN_A_HEADER = re.compile(r'[<>,;:"()\[\]\\]')  # would make one address into several, or into a name and an address
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,119}")
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One file."""

    filename: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One message to one address. `dedupe_key` says what it is about, e.g. `invoice-sent inv_…`."""

    to: str
    subject: str
    text: str
    dedupe_key: str
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()


def clean_recipient(text: str) -> str:
    """One plain address that a mail can be sent to. Raises ApiError naming email."""
    if _NOT_IN_A_HEADER.search(text):
        raise ApiError("invalid_field", "email must be one plain address.", param="email")
    return clean_email(text)


async def enqueue(connection: AsyncConnection, mail: Mail) -> UUID | None:
    """The mail's id; None when one with this dedupe key is there already. Raises ApiError naming the field at fault."""
    return await _put(connection, mail, id_=new_id(), sealed_secret=None)


async def enqueue_with_secret(connection: AsyncConnection, mail: Mail, secret: str, *, pepper: bytes) -> UUID | None:
    """The same; `secret` takes the place of SECRET in text and HTML when the mail is sent, and lies here sealed until then."""
    if SECRET not in mail.text:
        raise ValueError(f"the text has no {SECRET}")
    id_ = new_id()
    return await _put(connection, mail, id_=id_, sealed_secret=seal(secret, pepper=pepper, purpose=PURPOSE, about=id_.bytes))


async def _put(connection: AsyncConnection, mail: Mail, *, id_: UUID, sealed_secret: bytes | None) -> UUID | None:
    row = _checked(mail) | {"id": id_, "sealed_secret": sealed_secret}
    statement = insert_or(mails).values(row).on_conflict_do_nothing(index_elements=["dedupe_key"]).returning(mails.c.id)
    if (await connection.execute(statement)).one_or_none() is None:
        return None
    if mail.attachments:
        await connection.execute(insert(mail_attachments), _attachment_rows(id_, mail.attachments))
    return id_


def _checked(mail: Mail) -> dict[str, str | None]:
    if max(len(mail.text), len(mail.html or "")) > MAX_BODY_CHARACTERS:
        raise ApiError("invalid_field", f"text must not be longer than {MAX_BODY_CHARACTERS} characters.", param="text")
    return {
        "dedupe_key": clean_name(mail.dedupe_key, field="dedupe_key", max_length=_MAX_DEDUPE_KEY),
        "recipient": clean_recipient(mail.to),
        "subject": clean_name(mail.subject, field="subject", max_length=_MAX_SUBJECT),
        "text": mail.text.replace("\0", ""),
        "html": None if mail.html is None else mail.html.replace("\0", ""),
    }


def _attachment_rows(mail_id: UUID, attachments: tuple[Attachment, ...]) -> list[dict[str, object]]:
    if len(attachments) > MAX_ATTACHMENTS or sum(len(a.content) for a in attachments) > MAX_ATTACHMENT_BYTES:
        what = f"must be at most {MAX_ATTACHMENTS} files of {MAX_ATTACHMENT_BYTES} bytes together."
        raise ApiError("invalid_field", f"attachments {what}", param="attachments")
    for attachment in attachments:
        if not (_FILENAME.fullmatch(attachment.filename) and _MEDIA_TYPE.fullmatch(attachment.media_type)):
            raise ApiError("invalid_field", "an attachment's name or media type is not usable.", param="attachments")
    return [
        {"mail_id": mail_id, "position": at, "filename": a.filename, "media_type": a.media_type, "content": a.content}
        for at, a in enumerate(attachments)
    ]
