"""`vlaapi keys …`: create, list and revoke keys. Words and output only; what happens is in `verbs.py`."""

from typing import Annotated, Any

import typer

from control_plane.identity.public_id import public_id
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines, print_table, tell_if_unheard
from control_plane.keys.verbs import IssuedKey, KeySummary, NewKey, create_key, list_keys, revoke_key

commands = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

CustomerId = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id, cus_….")]


@commands.command("create")
def create(
    ctx: typer.Context,
    customer: CustomerId,
    name: Annotated[str, typer.Option("--key-name", "--name", help="What the key is for; shown in lists.")] = "default",
    key_per_minute: Annotated[int | None, typer.Option(help="A cap of its own, below the customer's.")] = None,
    expires_in_days: Annotated[int | None, typer.Option(help="After this many days it is refused.")] = None,
    as_json: AsJson = False,
) -> None:
    """One more key for a customer. It is shown now and never again."""
    customer_id = id_of("customer", "cus", customer)
    new = NewKey(name=name, per_minute=key_per_minute, expires_in_days=expires_in_days)
    created = on_stores(ctx, lambda stores: create_key(stores, customer_id, new))
    if as_json:
        described = issued_as_json(created.key) | {"customer": customer}
        print_json({"api_key": created.key.text, "key": described, "is_announced": created.is_announced})
    else:
        print_lines({"customer": customer, **issued_as_lines(created.key)})
    tell_if_unheard(is_announced=created.is_announced)


@commands.command("list")
def list_(
    ctx: typer.Context,
    customer: Annotated[str | None, typer.Option("--customer", help="Only this customer's, cus_….")] = None,
    as_json: AsJson = False,
) -> None:
    """Every key with its readable start; never the key."""
    customer_id = None if customer is None else id_of("customer", "cus", customer)
    keys = on_stores(ctx, lambda stores: list_keys(stores.engine, customer_id))
    if as_json:
        print_json({"keys": [summary_as_json(key) for key in keys]})
    else:
        print_table([summary_as_json(key) for key in keys])


@commands.command("revoke")
def revoke(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_….")],
    as_json: AsJson = False,
) -> None:
    """Ends a key for good, in every running process in under a second."""
    key_id = id_of("key", "key", key)
    revoked = on_stores(ctx, lambda stores: revoke_key(stores, key_id))
    if as_json:
        print_json({"key": summary_as_json(revoked.key), "is_announced": revoked.is_announced})
    else:
        print_lines({"revoked": key, "start": revoked.key.start})
    tell_if_unheard(is_announced=revoked.is_announced)


def issued_as_json(key: IssuedKey) -> dict[str, Any]:
    """A new key without its text."""
    described = {"id": public_id("key", key.id), "start": key.start, "name": key.name}
    return described | {"per_minute": key.per_minute, "expires_at": key.expires_at}


def issued_as_lines(key: IssuedKey) -> dict[str, object]:
    """A new key with its text, for the person who must pass it on."""
    lines: dict[str, object] = {"key": public_id("key", key.id), "api key": key.text}
    if key.expires_at is not None:
        lines["expires"] = f"{key.expires_at:%Y-%m-%d %H:%M} UTC"
    return lines | {"": "Store the API key now: it is not kept and cannot be shown again."}


def summary_as_json(key: KeySummary) -> dict[str, Any]:
    """A key as lists show it."""
    return {
        "id": public_id("key", key.id),
        "customer": public_id("cus", key.customer_id),
        "start": key.start,
        "name": key.name,
        "per_minute": key.per_minute,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "created_at": key.created_at,
    }
