"""The outbox of e-mails over HTTP, for operators: look at it, send dead mails again."""

from datetime import datetime
from typing import Literal

import msgspec

from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.endpoints.pages import Page, PageQuery, before_of, page_of
from control_plane.identity.public_id import public_id
from control_plane.mail.verbs import MailSummary, list_mails, replay_mail
from control_plane.operators.roles import Support, Viewer


class MailQuery(PageQuery, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which mails."""

    status: Literal["waiting", "sent", "dead"] | None = None


class MailReport(msgspec.Struct, frozen=True, kw_only=True):
    """A mail without its text."""

    id: str
    to: str
    subject: str
    status: str
    sent_by: str | None
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None
    sent_at: datetime | None
    created_at: datetime


async def list_page(by: Viewer, call: Call, *, query: MailQuery) -> Page[MailReport]:  # noqa: ARG001 -- the role is what it asks for
    """Newest first."""
    before_id = before_of(query, "mail")
    rows = await list_mails(call.stores.engine, status=query.status, before_id=before_id, limit=query.limit + 1)
    return page_of(rows, query, "mail", _report)


async def replay(by: Support, call: Call) -> MailReport:  # noqa: ARG001 -- as above
    """Tries a mail again that was given up."""
    return _report(await replay_mail(call.stores, call.id("mail", "mail")))


def _report(mail: MailSummary) -> MailReport:
    return MailReport(
        id=public_id("mail", mail.id),
        to=mail.recipient,
        subject=mail.subject,
        status=mail.status,
        sent_by=mail.sent_by,
        attempts=mail.attempts,
        next_attempt_at=mail.next_attempt_at if mail.status == "waiting" else None,
        last_error=mail.last_error,
        sent_at=mail.sent_at,
        created_at=mail.created_at,
    )


_MAIL = {
    "id": "mail_0193a6b2c4d87e1fa2b3c4d5e6f70819",
    "to": "ops@acme.example",
    "subject": "Your invoice",
    "status": "dead",
    "sent_by": None,
    "attempts": 3,
    "next_attempt_at": None,
    "last_error": "550 No such user",
    "sent_at": None,
    "created_at": "2026-11-27T18:30:00Z",
}

OPERATOR_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/admin/v1/mails",
        name="list_mails",
        summary="E-mails that wait, were sent, or are dead, newest first",
        serve=list_page,
        answer_example={"data": [_MAIL], "next_cursor": None},
    ),
    Endpoint(
        method="POST",
        path="/admin/v1/mails/{mail}/replay",
        name="replay_mail",
        summary="Try a mail again that was given up",
        serve=replay,
        answer_example={**_MAIL, "status": "waiting", "next_attempt_at": "2026-11-27T18:31:00Z"},
    ),
)
