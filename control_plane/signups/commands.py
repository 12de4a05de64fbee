"""`vlaapi signups …`: requests for access: look, approve, reject. Words and output only; what happens is in `verbs.py`."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from sqlalchemy import Row

from billing.tiers import Tier
from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines, print_table, tell_if_unheard
from control_plane.mail.letters import Letterhead
from control_plane.signups.verbs import STATUSES, Approved, approve, list_signups, reject

SignupId = Annotated[str, typer.Argument(metavar="SIGNUP", help="The sign-up's id, sup_….")]


def create_signup_commands(letterhead: Callable[[], tuple[Letterhead, bool]]) -> typer.Typer:
    """`letterhead` also says whether there is a mail server."""
    commands = typer.Typer(help="Requests for access: list, approve, reject.", no_args_is_help=True)

    @commands.command("list")
    def list_(
        ctx: typer.Context,
        status: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATUSES)}.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 50,
        as_json: AsJson = False,
    ) -> None:
        """Who asked, newest first."""
        if status is not None and status not in STATUSES:
            raise ApiError("invalid_field", f"status must be one of {', '.join(STATUSES)}.", param="status")
        rows = on_stores(ctx, lambda stores: list_signups(stores.engine, status=status, before_id=None, limit=limit))
        told = [signup_as_json(row) for row in rows]
        if as_json:
            print_json({"signups": told})
        else:
            print_table(told)

    @commands.command("approve")
    def approve_(ctx: typer.Context, signup: SignupId, tier: Tier = Tier.FREE, as_json: AsJson = False) -> None:
        """Makes the customer and a key, and sends the welcome e-mail; the key is in that e-mail only."""
        signup_id = id_of("signup", "sup", signup)
        letters, has_server = letterhead()
        done = on_stores(ctx, lambda stores: approve(stores, letters, signup_id, tier=tier))
        _print_approved(done, has_server=has_server, as_json=as_json)

    @commands.command("reject")
    def reject_(ctx: typer.Context, signup: SignupId, as_json: AsJson = False) -> None:
        """Nobody is told; the address may ask again."""
        signup_id = id_of("signup", "sup", signup)
        told = signup_as_json(on_stores(ctx, lambda stores: reject(stores, signup_id)))
        if as_json:
            print_json({"signup": told})
        else:
            print_lines(told)

    return commands


def _print_approved(done: Approved, *, has_server: bool, as_json: bool) -> None:
    told = {**signup_as_json(done.signup), "tier": done.customer.tier.value, "key": done.key_start}
    if as_json:
        print_json({"signup": told, "is_announced": done.is_announced, "has_mail_server": has_server})
    else:
        print_lines({**told, "welcome e-mail": f"waits in the outbox for {done.customer.email}"})
    if not has_server:
        note = "note: no mail server is set (VLA_SMTP_URL): the worker writes the mail, with the key in it, as a file into the"
        typer.echo(f"{note} folder `outbox` beside VLA_SPOOL_DIR; pass it on from there.", err=True)
    tell_if_unheard(is_announced=done.is_announced)


def signup_as_json(row: Row[Any]) -> dict[str, Any]:
    """A sign-up as lists show it."""
    return {
        "id": public_id("sup", row.id),
        "company_name": row.company_name,
        "email": row.email,
        "use_case": row.use_case,
        "status": row.status,
        "customer": None if row.customer_id is None else public_id("cus", row.customer_id),
        "decided_by": row.decided_by,
        "decided_at": row.decided_at,
        "created_at": row.created_at,
    }
