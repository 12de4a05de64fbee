"""`vlaapi mails …`: look at the outbox, send dead mails again. Words and output only; what happens is in `verbs.py`."""

from typing import Annotated, Any

import typer

from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines, print_table
from control_plane.mail.verbs import STATUSES, MailSummary, list_mails, replay_mail

commands = typer.Typer(help="E-mails that wait, were sent, or are dead.", no_args_is_help=True)


@commands.command("list")
def list_(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATUSES)}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The outbox, without the texts."""
    if status is not None and status not in STATUSES:
        raise ApiError("invalid_field", f"status must be one of {', '.join(STATUSES)}.", param="status")
    mails = on_stores(ctx, lambda stores: list_mails(stores.engine, status=status, before_id=None, limit=limit))
    if as_json:
        print_json({"mails": [mail_as_json(mail) for mail in mails]})
    else:
        print_table([mail_as_json(mail) for mail in mails])


@commands.command("replay")
def replay(
    ctx: typer.Context,
    mail: Annotated[str, typer.Argument(metavar="MAIL", help="The mail's id, mail_….")],
    as_json: AsJson = False,
) -> None:
    """Tries a mail again that was given up."""
    mail_id = id_of("mail", "mail", mail)
    replayed = mail_as_json(on_stores(ctx, lambda stores: replay_mail(stores, mail_id)))
    if as_json:
        print_json({"mail": replayed})
    else:
        print_lines(replayed)


def mail_as_json(mail: MailSummary) -> dict[str, Any]:
    """A mail as lists show it."""
    return {
        "id": public_id("mail", mail.id),
        "to": mail.recipient,
        "subject": mail.subject,
        "status": mail.status,
        "sent_by": mail.sent_by,
        "attempts": mail.attempts,
        "next_attempt_at": mail.next_attempt_at if mail.status == "waiting" else None,
        "last_error": mail.last_error,
        "sent_at": mail.sent_at,
        "created_at": mail.created_at,
    }
