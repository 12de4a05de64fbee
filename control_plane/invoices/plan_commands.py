"""`vlaapi customers plan | adjust`: what a customer has and pays, and corrections of what was metered. Words and output only."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from msgspec import to_builtins

from billing.money import as_text
from billing.rating import Line
from billing.terms import OwnPrices
from billing.tiers import Tier
from control_plane.errors import ApiError
from control_plane.invoices.adjust import adjust_usage
from control_plane.invoices.exports import line_of
from control_plane.invoices.plans import Plan, Preview, cancel_planned, change_plan, preview_plan
from control_plane.keys.commands import CustomerId
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines, print_table

_CENTS = "Instead of the price list's, in cents; fractions are allowed."


def add_to(commands: typer.Typer) -> None:
    """Adds the commands to `vlaapi customers`."""
    commands.command("plan")(plan)
    commands.command("cancel-plan")(cancel_plan)
    commands.command("adjust")(adjust)


def plan(
    ctx: typer.Context,
    customer: CustomerId,
    tier: Tier,
    at: Annotated[str | None, typer.Option(help="From when, ISO 8601 with time zone (or a UTC day); else now.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only show what it would do to the invoice.")] = False,
    currency: Annotated[str | None, typer.Option(help="Own currency; needs both prices.")] = None,
    monthly_cents: Annotated[int | None, typer.Option(help="Own fee, in cents.")] = None,
    per_request_cents: Annotated[str | None, typer.Option(help=_CENTS)] = None,
    committed_requests: Annotated[int | None, typer.Option(help="Requests paid each month, used or not.")] = None,
    overage_per_request_cents: Annotated[str | None, typer.Option(help="Beyond the committed ones, in cents.")] = None,
    discount_percent: Annotated[str, typer.Option(help="Off everything, such as 12.5.")] = "0",
    reason: Annotated[str | None, typer.Option(help="Kept with the change.")] = None,
    as_json: AsJson = False,
) -> None:
    """Another plan, billed to the second and in force in the limits. Own prices that are not named end."""
    customer_id = id_of("customer", "cus", customer)
    own = OwnPrices(
        currency=currency,
        monthly_cents=monthly_cents,
        per_request_cents=_decimal(per_request_cents, "per_request_cents"),
        committed_requests=committed_requests,
        overage_per_request_cents=_decimal(overage_per_request_cents, "overage_per_request_cents"),
        discount_basis_points=_basis_points(discount_percent),
    )
    wanted = Plan(tier=tier, own=own, effective_at=None if at is None else _instant(at), reason=reason)
    if preview:
        shown = on_stores(ctx, lambda stores: preview_plan(stores.engine, customer_id, wanted))
    else:
        shown = on_stores(ctx, lambda stores: change_plan(stores, customer_id, wanted))
    _print(shown, is_preview=preview, as_json=as_json)


def cancel_plan(ctx: typer.Context, customer: CustomerId) -> None:
    """Take back plan changes that are planned for later."""
    customer_id = id_of("customer", "cus", customer)
    typer.echo(f"{on_stores(ctx, lambda stores: cancel_planned(stores, customer_id))} planned changes taken back")


def adjust(
    ctx: typer.Context,
    customer: CustomerId,
    day: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The UTC day that is corrected.")],
    requests: Annotated[int, typer.Option(help="How many to add; below 0 takes back.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the correction.")],
) -> None:
    """Correct what was metered, by a new record. Of a month that is closed it is on the next invoice."""
    customer_id = id_of("customer", "cus", customer)
    on_stores(ctx, lambda stores: adjust_usage(stores, customer_id, day.date(), requests, reason))
    typer.echo(f"{day:%Y-%m-%d}: {requests:+,} requests")


def _print(preview: Preview, *, is_preview: bool, as_json: bool) -> None:
    differences = preview.difference_cents()
    if as_json:
        print_json(
            {
                "is_preview": is_preview,
                "effective_at": preview.effective_at,
                "difference_cents": differences,
                "before": [to_builtins(line_of(line)) for line in preview.before],
                "after": [to_builtins(line_of(line)) for line in preview.after],
            }
        )
        return
    print_lines(
        {
            "effective": f"{preview.effective_at:%Y-%m-%d %H:%M:%S} UTC",
            "difference": ", ".join(as_text(cents, currency) for currency, cents in differences.items()) or "none",
            "": "preview: nothing was changed" if is_preview else "changed",
        }
    )
    print_table([*_rows("before", preview.before), *_rows("after", preview.after)])


def _rows(when: str, lines: Sequence[Line]) -> list[dict[str, object]]:
    return [
        {
            "this month": when,
            "line": line.description,
            "requests": line.quantity,
            "amount": as_text(line.amount_cents, line.currency),
        }
        for line in lines
    ]


def _instant(text: str) -> datetime:
    try:
        if len(text) == len("2026-12-01"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), tzinfo=UTC)
        return datetime.fromisoformat(text)
    except ValueError:
        message = f"at must be like 2026-12-01 or 2026-11-16T12:00:00+01:00, not {text!r}."
        raise ApiError("invalid_field", message, param="effective_at") from None


def _decimal(text: str | None, field: str) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        raise ApiError("invalid_field", f"{field} must be a number of cents, not {text!r}.", param=field) from None


def _basis_points(text: str) -> int:
    points = _decimal(text, "discount_percent")
    points = None if points is None else points * 100
    if points is None or not points.is_finite() or points != points.to_integral_value():
        raise ApiError("invalid_field", "discount_percent must have at most two decimals.", param="discount_percent")
    return int(points)
