"""`vlaapi webhooks …`: what was delivered to customers' webhooks, and again. Words and output only."""

from typing import Annotated, Any

import typer
from sqlalchemy import Row

from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines, print_table
from control_plane.webhooks.verbs import DeliveryFilter, list_deliveries, replay_delivery

commands = typer.Typer(help="Deliveries to customers' webhooks.", no_args_is_help=True)
_STATUSES = ("waiting", "delivered", "dead")


@commands.command("list")
def list_(
    ctx: typer.Context,
    customer: Annotated[str | None, typer.Option("--customer", help="Only this customer's, cus_….")] = None,
    status: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(_STATUSES)}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Deliveries, newest first."""
    if status is not None and status not in _STATUSES:
        raise ApiError("invalid_field", f"status must be one of {', '.join(_STATUSES)}.", param="status")
    wanted = DeliveryFilter(customer_id=None if customer is None else id_of("customer", "cus", customer), status=status)
    rows = on_stores(ctx, lambda stores: list_deliveries(stores.engine, wanted, limit=limit))
    told = [_as_json(row) for row in rows]
    if as_json:
        print_json({"deliveries": told})
    else:
        print_table(told)


@commands.command("replay")
def replay(
    ctx: typer.Context,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id, whd_….")],
    as_json: AsJson = False,
) -> None:
    """Sends a message again, with the same id, from the first attempt on."""
    delivery_id = id_of("delivery", "whd", delivery)
    told = _as_json(on_stores(ctx, lambda stores: replay_delivery(stores, delivery_id)))
    if as_json:
        print_json({"delivery": told})
    else:
        print_lines(told)


def _as_json(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": public_id("whd", row.id),
        "customer": public_id("cus", row.customer_id),
        "type": row.type,
        "url": row.url,
        "status": row.status,
        "attempts": row.attempts,
        "last_status_code": row.last_status_code,
        "last_error": row.last_error,
        "created_at": row.created_at,
    }
