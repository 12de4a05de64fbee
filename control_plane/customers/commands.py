"""`vlaapi customers …`: create, list and change customers. Words and output only; what happens is in `verbs.py`."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

import typer

from billing.tiers import Tier
from control_plane.customers.data_policy import NewDataPolicy
from control_plane.customers.verbs import (
    LIMITS,
    ChangedCustomer,
    CreatedCustomer,
    CustomerSummary,
    NewCustomer,
    Overrides,
    clean_company_name,
    create_customer,
    list_customers,
    set_active,
    set_data_policy,
    set_deadline,
    set_limits,
    set_spend_cap,
    set_tier,
)
from control_plane.errors import ApiError
from control_plane.identity.data_policy import DataPolicy
from control_plane.identity.public_id import public_id
from control_plane.keys.commands import CustomerId, issued_as_json, issued_as_lines
from control_plane.keys.fields import clean_email
from control_plane.keys.terminal import (
    AsJson,
    asking_again,
    given_or_asked,
    id_of,
    is_terminal,
    on_stores,
    print_json,
    print_lines,
    print_table,
    tell_if_unheard,
)
from control_plane.keys.verbs import NewKey, Stores

commands = typer.Typer(help="Create, list and change customers.", no_args_is_help=True)

_OWN = "Instead of the tier's."
_OWN_OR_TIER = "A number, or `tier` to go back to the tier's."


@commands.command("create")
def create(
    ctx: typer.Context,
    company_name: Annotated[str | None, typer.Option("--company-name", "--company", help="Who pays.")] = None,
    email: Annotated[str | None, typer.Option(help="Where invoices and notices go; one customer each.")] = None,
    tier: Annotated[Tier | None, typer.Option(help="What they have bought.  [default: free]")] = None,
    per_minute: Annotated[int | None, typer.Option(help=_OWN)] = None,
    per_day: Annotated[int | None, typer.Option(help=_OWN)] = None,
    per_month: Annotated[int | None, typer.Option(help=_OWN)] = None,
    concurrency: Annotated[int | None, typer.Option(help=_OWN)] = None,
    zero_retention: Annotated[bool, typer.Option("--zero-retention", help="Keep no instruction and no action.")] = False,
    key_name: Annotated[str, typer.Option(help="What the first key is for.")] = "default",
    key_per_minute: Annotated[int | None, typer.Option(help="A cap of the first key's own.")] = None,
    expires_in_days: Annotated[int | None, typer.Option(help="When the first key ends.")] = None,
    as_json: AsJson = False,
) -> None:
    """A customer and their first key, which is shown now and never again. Asks for what is missing when a person is there."""
    is_asking = is_terminal() and (company_name is None or email is None)
    company_name = given_or_asked(company_name, field="company_name", question="Company name", clean=clean_company_name)
    email = given_or_asked(email, field="email", question="E-mail", clean=clean_email)
    overrides = {"per_minute": per_minute, "per_day": per_day, "per_month": per_month, "concurrency": concurrency}
    new = NewCustomer(
        company_name=company_name,
        email=email,
        tier=tier or _asked_tier(is_asking=is_asking),
        overrides=overrides,
        is_zero_retention=zero_retention,
    )
    key = NewKey(name=key_name, per_minute=key_per_minute, expires_in_days=expires_in_days)
    created = on_stores(ctx, lambda stores: create_customer(stores, new, key))
    _print_created(created, as_json=as_json)


@commands.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Every customer and the limits in force."""
    customers = on_stores(ctx, lambda stores: list_customers(stores.engine))
    if as_json:
        print_json({"customers": [_as_json(customer) for customer in customers]})
    else:
        print_table([_as_row(customer) for customer in customers])


@commands.command("set-tier")
def set_tier_(ctx: typer.Context, customer: CustomerId, tier: Tier, as_json: AsJson = False) -> None:
    """Another tier, from the next request on."""
    _change(ctx, customer, lambda stores, id_: set_tier(stores, id_, tier), as_json=as_json)


@commands.command("set-limits")
def set_limits_(
    ctx: typer.Context,
    customer: CustomerId,
    per_minute: Annotated[str | None, typer.Option(help=_OWN_OR_TIER)] = None,
    per_day: Annotated[str | None, typer.Option(help=_OWN_OR_TIER)] = None,
    per_month: Annotated[str | None, typer.Option(help=_OWN_OR_TIER)] = None,
    concurrency: Annotated[str | None, typer.Option(help=_OWN_OR_TIER)] = None,
    as_json: AsJson = False,
) -> None:
    """Limits of the customer's own. What is not named stays as it is."""
    given = dict(zip(LIMITS, (per_minute, per_day, per_month, concurrency), strict=True))
    overrides: Overrides = {name: _own_or_tier(name, text) for name, text in given.items() if text is not None}
    _change(ctx, customer, lambda stores, id_: set_limits(stores, id_, overrides), as_json=as_json)


@commands.command("set-spend-cap")
def set_spend_cap_(
    ctx: typer.Context,
    customer: CustomerId,
    cap: Annotated[str, typer.Argument(metavar="CENTS", help="The most a month may cost, in cents, fee included; or `none`.")],
    as_json: AsJson = False,
) -> None:
    """Refuses requests that would make the month cost more. Setting the same cap again counts anew what is spent."""
    cents = None if cap == "none" else _whole("spend_cap_cents", cap, or_else="none")
    _change(ctx, customer, lambda stores, id_: set_spend_cap(stores, id_, cents), as_json=as_json)


@commands.command("set-deadline")
def set_deadline_(
    ctx: typer.Context,
    customer: CustomerId,
    deadline: Annotated[str, typer.Argument(metavar="MS", help="Milliseconds, or `none` for the service's own.")],
    as_json: AsJson = False,
) -> None:
    """How long requests may take that name no deadline of their own."""
    deadline_ms = None if deadline == "none" else _whole("deadline_ms", deadline, or_else="none")
    _change(ctx, customer, lambda stores, id_: set_deadline(stores, id_, deadline_ms), as_json=as_json)


@commands.command("set-data-policy")
def set_data_policy_(
    ctx: typer.Context,
    customer: CustomerId,
    policy: DataPolicy,
    given_by: Annotated[str | None, typer.Option(help="Who agreed, a person or a contract; needed for train.")] = None,
    keep_days: Annotated[int | None, typer.Option(help="Days that pictures are kept.  [default: debug 7, train 365]")] = None,
    as_json: AsJson = False,
) -> None:
    """What may be kept of their requests, from the next one on: zero, standard, debug or train."""
    new = NewDataPolicy(policy=policy, given_by=given_by, keep_days=keep_days)
    _change(ctx, customer, lambda stores, id_: set_data_policy(stores, id_, new), as_json=as_json)


@commands.command("deactivate")
def deactivate(ctx: typer.Context, customer: CustomerId, as_json: AsJson = False) -> None:
    """Refuses every key of this customer, until activated again."""
    _change(ctx, customer, lambda stores, id_: set_active(stores, id_, is_active=False), as_json=as_json)


@commands.command("activate")
def activate(ctx: typer.Context, customer: CustomerId, as_json: AsJson = False) -> None:
    """Lets the customer's keys in again."""
    _change(ctx, customer, lambda stores, id_: set_active(stores, id_, is_active=True), as_json=as_json)


def _change(
    ctx: typer.Context, customer: str, verb: Callable[[Stores, UUID], Awaitable[ChangedCustomer]], *, as_json: bool
) -> None:
    customer_id = id_of("customer", "cus", customer)
    changed = on_stores(ctx, lambda stores: verb(stores, customer_id))
    if as_json:
        print_json({"customer": _as_json(changed.customer), "is_announced": changed.is_announced})
    else:
        print_lines(_as_row(changed.customer))
    tell_if_unheard(is_announced=changed.is_announced)


def _asked_tier(*, is_asking: bool) -> Tier:
    if not is_asking:
        return Tier.FREE
    answer: Tier = typer.prompt(f"Tier ({', '.join(Tier)})", default=Tier.FREE.value, err=True, value_proc=asking_again(_tier))
    return answer


def _tier(text: str) -> Tier:
    if text not in set(Tier):
        raise ApiError("invalid_field", f"tier must be one of {', '.join(Tier)}.", param="tier")
    return Tier(text)


def _own_or_tier(name: str, text: str) -> int | None:
    return None if text == "tier" else _whole(name, text, or_else="tier")


def _whole(name: str, text: str, *, or_else: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ApiError("invalid_field", f"{name} must be a whole number, or `{or_else}`.", param=name)
    return int(text)


def _print_created(created: CreatedCustomer, *, as_json: bool) -> None:
    customer = created.customer
    if as_json:
        described = {"customer": _as_json(customer), "key": issued_as_json(created.key)}
        print_json({"api_key": created.key.text, **described, "is_announced": created.is_announced})
    else:
        print_lines(_as_row(customer) | issued_as_lines(created.key))
    tell_if_unheard(is_announced=created.is_announced)


def _as_json(customer: CustomerSummary) -> dict[str, Any]:
    return {
        "id": public_id("cus", customer.id),
        "company_name": customer.company_name,
        "email": customer.email,
        "tier": customer.tier.value,
        "limits": asdict(customer.limits),
        "is_active": customer.is_active,
        "is_zero_retention": customer.is_zero_retention,
        "data_policy": customer.data_policy.value,
        "data_policy_version": customer.data_policy_version,
        "consent": None if customer.data_consent_id is None else public_id("con", customer.data_consent_id),
        "keep_days": customer.data_keep_days,
        "spend_cap_cents": customer.spend_cap_cents,
        "deadline_ms": customer.deadline_ms,
        "created_at": customer.created_at,
    }


def _as_row(customer: CustomerSummary) -> dict[str, object]:
    limits = customer.limits
    month = "unlimited" if limits.per_month is None else f"{limits.per_month}/month"
    return {
        "customer": public_id("cus", customer.id),
        "company": customer.company_name,
        "email": customer.email,
        "tier": customer.tier.value,
        "limits": f"{limits.per_minute}/minute, {limits.per_day}/day, {month}, {limits.concurrency} at once",
        "active": "yes" if customer.is_active else "no",
        "data policy": customer.data_policy.value,
        "spend cap": "none" if customer.spend_cap_cents is None else f"{customer.spend_cap_cents} cents/month",
    }
