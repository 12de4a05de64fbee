"""Makes the message of a row of the outbox: always the same Message-ID, so that a receiver can tell that it has it already.

Pure. Whatever could break a header was refused when the mail was put in; Python's own header classes are the second wall.
"""

import html
from collections.abc import Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Any
from uuid import UUID

from control_plane.mail.outbox import SECRET, Attachment


def build(row: Any, attachments: Sequence[Attachment], *, sender: str, secret: str | None) -> EmailMessage:
    """`row` is one of `mails`."""
    message = EmailMessage(policy=SMTP.clone(utf8=not row.recipient.isascii()))
    name, address = parseaddr(sender)
    message["From"] = Address(display_name=name, addr_spec=address)
    message["To"] = Address(addr_spec=row.recipient)
    message["Subject"] = row.subject
    message["Message-ID"] = message_id(row.id, sender)
    message["Date"] = format_datetime(_whole_seconds(row.created_at))
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(row.text.replace(SECRET, secret or SECRET))
    if row.html is not None:
        message.add_alternative(row.html.replace(SECRET, html.escape(secret or SECRET)), subtype="html")
    for attachment in attachments:
        main, _, sub = attachment.media_type.partition("/")
        message.add_attachment(attachment.content, maintype=main, subtype=sub, filename=attachment.filename)
    return message


def message_id(id_: UUID, sender: str) -> str:
    """The same for every attempt."""
    return f"<{id_.hex}@{parseaddr(sender)[1].rpartition('@')[2]}>"


def _whole_seconds(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)
