"""`vlaapi keys …`: create, rotate, change, list and revoke keys. Words and output only; what happens is in `verbs.py`."""

from typing import Annotated, Any

import typer

from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.keys.fields import clean_data_policy, clean_duration
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines, print_table, tell_if_unheard
from control_plane.keys.verbs import IssuedKey, KeySummary, NewKey, change_key, create_key, list_keys, revoke_key, rotate_key

commands = typer.Typer(help="Create, rotate, change, list and revoke API keys.", no_args_is_help=True)

CustomerId = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id, cus_….")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_….")]

ANY = "any"


@commands.command("create")
def create(
    ctx: typer.Context,
    customer: CustomerId,
    name: Annotated[str, typer.Option("--key-name", "--name", help="What the key is for; shown in lists.")] = "default",
    key_per_minute: Annotated[int | None, typer.Option(help="A cap of its own, below the customer's.")] = None,
    expires_in_days: Annotated[int | None, typer.Option(help="After this many days it is refused.")] = None,
    test: Annotated[bool, typer.Option("--test", help="A test key: the real pipeline, small limits, never billed.")] = False,
    robots: Annotated[str | None, typer.Option(help="Only for these robots, separated by commas.")] = None,
    policies: Annotated[str | None, typer.Option(help="Only for these models, separated by commas.")] = None,
    allowed_ips: Annotated[str | None, typer.Option(help="Only from these addresses or networks (CIDR).")] = None,
    data_policy: Annotated[str | None, typer.Option(help="Keeps less than the customer's: zero, standard, debug.")] = None,
    as_json: AsJson = False,
) -> None:
    """One more key for a customer. It is shown now and never again."""
    customer_id = id_of("customer", "cus", customer)
    new = NewKey(
        name=name,
        per_minute=key_per_minute,
        expires_in_days=expires_in_days,
        is_test=test,
        robots=_listed(robots),
        policies=_listed(policies),
        allowed_ips=_listed(allowed_ips),
        data_policy=clean_data_policy(data_policy),
    )
    created = on_stores(ctx, lambda stores: create_key(stores, customer_id, new))
    if as_json:
        described = issued_as_json(created.key) | {"customer": customer}
        print_json({"api_key": created.key.text, "key": described, "is_announced": created.is_announced})
    else:
        print_lines({"customer": customer, **issued_as_lines(created.key)})
    tell_if_unheard(is_announced=created.is_announced)


@commands.command("rotate")
def rotate(
    ctx: typer.Context,
    key: KeyId,
    overlap: Annotated[str, typer.Option(help="For how long the old key goes on working: 24h, 90m, 7d, or 0.")] = "24h",
    expires_in_days: Annotated[int | None, typer.Option(help="When the new key ends; else it lives as long as the old.")] = None,
    as_json: AsJson = False,
) -> None:
    """A new key like this one, shown now and never again; the old one ends after the overlap."""
    key_id, length = id_of("key", "key", key), clean_duration(overlap, field="overlap")
    done = on_stores(ctx, lambda stores: rotate_key(stores, key_id, overlap=length, expires_in_days=expires_in_days))
    if as_json:
        described = {"key": issued_as_json(done.key), "old": summary_as_json(done.old)}
        print_json({"api_key": done.key.text, **described, "is_announced": done.is_announced})
    else:
        print_lines({"rotated": key, "old key ends": f"{done.old.expires_at:%Y-%m-%d %H:%M:%S} UTC", **issued_as_lines(done.key)})
    tell_if_unheard(is_announced=done.is_announced)


@commands.command("set")
def set_(
    ctx: typer.Context,
    key: KeyId,
    name: Annotated[str | None, typer.Option("--key-name", "--name", help="What the key is for.")] = None,
    key_per_minute: Annotated[str | None, typer.Option(help=f"A cap of its own, or `{ANY}`.")] = None,
    robots: Annotated[str | None, typer.Option(help=f"Only for these robots, or `{ANY}`.")] = None,
    policies: Annotated[str | None, typer.Option(help=f"Only for these models, or `{ANY}`.")] = None,
    allowed_ips: Annotated[str | None, typer.Option(help=f"Only from these addresses or networks (CIDR), or `{ANY}`.")] = None,
    data_policy: Annotated[str | None, typer.Option(help=f"What is kept of its requests, or `{ANY}`: the customer's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Changes what a key may do, in every running process in under a second. What is not named stays as it is."""
    key_id = id_of("key", "key", key)
    lists = {"robots": robots, "policies": policies, "allowed_ips": allowed_ips}
    changes: dict[str, Any] = {field: _listed_or_any(text) for field, text in lists.items() if text is not None}
    if name is not None:
        changes["name"] = name
    if data_policy is not None:
        changes["data_policy"] = None if data_policy == ANY else data_policy
    if key_per_minute is not None:
        changes["per_minute"] = _number_or_any(key_per_minute)
    changed = on_stores(ctx, lambda stores: change_key(stores, key_id, changes))
    if as_json:
        print_json({"key": summary_as_json(changed.key), "is_announced": changed.is_announced})
    else:
        print_lines(_as_row(changed.key))
    tell_if_unheard(is_announced=changed.is_announced)


@commands.command("list")
def list_(
    ctx: typer.Context,
    customer: Annotated[str | None, typer.Option("--customer", help="Only this customer's, cus_….")] = None,
    as_json: AsJson = False,
) -> None:
    """Every key with its readable start and when it was last used; never the key."""
    customer_id = None if customer is None else id_of("customer", "cus", customer)
    keys = on_stores(ctx, lambda stores: list_keys(stores.engine, customer_id))
    if as_json:
        print_json({"keys": [summary_as_json(key) for key in keys]})
    else:
        print_table([_as_row(key) for key in keys])


@commands.command("revoke")
def revoke(ctx: typer.Context, key: KeyId, as_json: AsJson = False) -> None:
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
    described = {"id": public_id("key", key.id), "start": key.start, "name": key.name, "is_test": key.is_test}
    return described | {"per_minute": key.per_minute, "expires_at": key.expires_at} | _restrictions(key)


def issued_as_lines(key: IssuedKey) -> dict[str, object]:
    """A new key with its text, for the person who must pass it on."""
    lines: dict[str, object] = {"key": public_id("key", key.id), "api key": key.text}
    if key.expires_at is not None:
        lines["expires"] = f"{key.expires_at:%Y-%m-%d %H:%M} UTC"
    lines |= {f"only {what.replace('_', ' ')}": ", ".join(listed) for what, listed in _restrictions(key).items() if listed}
    return lines | {"": "Store the API key now: it is not kept and cannot be shown again."}


def summary_as_json(key: KeySummary) -> dict[str, Any]:
    """A key as lists show it."""
    return {
        "id": public_id("key", key.id),
        "customer": public_id("cus", key.customer_id),
        "start": key.start,
        "name": key.name,
        "is_test": key.is_test,
        "per_minute": key.per_minute,
        **_restrictions(key),
        "data_policy": key.data_policy,
        "rotated_from": None if key.rotated_from is None else public_id("key", key.rotated_from),
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "created_at": key.created_at,
    }


def _restrictions(key: IssuedKey | KeySummary) -> dict[str, tuple[str, ...] | None]:
    return {"robots": key.robots, "policies": key.policies, "allowed_ips": key.allowed_ips}


def _as_row(key: KeySummary) -> dict[str, object]:
    lists = {what: ANY if listed is None else ",".join(listed) for what, listed in _restrictions(key).items()}
    return {name: value for name, value in summary_as_json(key).items() if name != "rotated_from"} | lists


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part for part in map(str.strip, text.split(",")) if part]


def _listed_or_any(text: str) -> list[str] | None:
    return None if text == ANY else _listed(text)


def _number_or_any(text: str) -> int | None:
    if text == ANY:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ApiError("invalid_field", f"key_per_minute must be a whole number, or `{ANY}`.", param="key_per_minute")
    return int(text)
