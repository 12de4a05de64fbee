"""Customers over HTTP, for operators: create, list, show, change. The verbs are those of the command line."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from billing.tiers import Tier
from control_plane.account.key_examples import ISSUED
from control_plane.account.keys import IssuedReport
from control_plane.customers.verbs import (
    LIMITS,
    MAX_CENTS,
    MAX_DEADLINE_MS,
    CustomerSummary,
    NewCustomer,
    change_customer,
    create_customer,
    page_customers,
    show_customer,
)
from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.endpoints.pages import Page, PageQuery, before_of, page_of
from control_plane.identity.data_policy import DataPolicy
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import NewKey
from control_plane.operators.roles import Admin, Viewer

_Count = Annotated[int, Meta(ge=1, le=2_000_000_000)]
_Cents = Annotated[int, Meta(ge=0, le=MAX_CENTS)]
_Deadline = Annotated[int, Meta(ge=1, le=MAX_DEADLINE_MS)]
_Text = Annotated[str, Meta(max_length=300)]


class LimitsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The limits in force; `per_month` null is unlimited."""

    per_minute: int
    per_day: int
    per_month: int | None
    concurrency: int


class CustomerReport(msgspec.Struct, frozen=True, kw_only=True):
    """A customer."""

    id: str
    company_name: str
    email: str
    tier: Tier
    limits: LimitsReport
    is_active: bool
    is_zero_retention: bool
    data_policy: DataPolicy
    spend_cap_cents: int | None  # what a UTC month may cost at most
    deadline_ms: int | None  # of a request that names none; null: the service's
    created_at: datetime


class CustomerWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of a POST. Limits instead of the tier's, where given."""

    company_name: _Text
    email: _Text
    tier: Tier = Tier.FREE
    per_minute: _Count | None = None
    per_day: _Count | None = None
    per_month: _Count | None = None
    concurrency: _Count | None = None
    is_zero_retention: bool = False
    key_name: _Text = "default"


class CustomerChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of a PATCH: what is left out stays; null: the tier's limit, no cap, the service's deadline."""

    tier: Tier | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    is_zero_retention: bool | UnsetType = UNSET
    per_minute: _Count | UnsetType | None = UNSET
    per_day: _Count | UnsetType | None = UNSET
    per_month: _Count | UnsetType | None = UNSET
    concurrency: _Count | UnsetType | None = UNSET
    spend_cap_cents: _Cents | UnsetType | None = UNSET
    deadline_ms: _Deadline | UnsetType | None = UNSET


class NewCustomerReport(msgspec.Struct, frozen=True, kw_only=True):
    """A new customer with the first key, which is told now and never again."""

    customer: CustomerReport
    key: IssuedReport


class ChangedReport(msgspec.Struct, frozen=True, kw_only=True):
    """A customer after a change; not announced means that processes notice within seconds, because Redis is away."""

    customer: CustomerReport
    is_announced: bool


async def create(by: Admin, call: Call, *, body: CustomerWish) -> NewCustomerReport:  # noqa: ARG001 -- the role is what it asks for
    """A customer and their first key, or neither."""
    new = NewCustomer(
        company_name=body.company_name,
        email=body.email,
        tier=body.tier,
        overrides={name: value for name in LIMITS if (value := getattr(body, name)) is not None},
        is_zero_retention=body.is_zero_retention,
    )
    created = await create_customer(call.stores, new, NewKey(name=body.key_name))
    key = IssuedReport(
        api_key=created.key.text,
        id=public_id("key", created.key.id),
        start=created.key.start,
        name=created.key.name,
        is_test=created.key.is_test,
        expires_at=created.key.expires_at,
        is_announced=created.is_announced,
    )
    return NewCustomerReport(customer=customer_report(created.customer), key=key)


async def list_page(by: Viewer, call: Call, *, query: PageQuery) -> Page[CustomerReport]:  # noqa: ARG001 -- as above
    """Newest first."""
    rows = await page_customers(call.stores.engine, before_id=before_of(query, "cus"), limit=query.limit + 1)
    return page_of(rows, query, "cus", customer_report)


async def show(by: Viewer, call: Call) -> CustomerReport:  # noqa: ARG001 -- as above
    """One customer."""
    return customer_report(await show_customer(call.stores.engine, call.id("customer", "cus")))


async def change(by: Admin, call: Call, *, body: CustomerChange) -> ChangedReport:  # noqa: ARG001 -- as above
    """All of what is named, or nothing of it; every process works with it within a second."""
    changes = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    changed = await change_customer(call.stores, call.id("customer", "cus"), changes)
    return ChangedReport(customer=customer_report(changed.customer), is_announced=changed.is_announced)


def customer_report(customer: CustomerSummary) -> CustomerReport:
    """A customer as it is told."""
    limits = customer.limits
    return CustomerReport(
        id=public_id("cus", customer.id),
        company_name=customer.company_name,
        email=customer.email,
        tier=customer.tier,
        limits=LimitsReport(
            per_minute=limits.per_minute, per_day=limits.per_day, per_month=limits.per_month, concurrency=limits.concurrency
        ),
        is_active=customer.is_active,
        is_zero_retention=customer.is_zero_retention,
        data_policy=customer.data_policy,
        spend_cap_cents=customer.spend_cap_cents,
        deadline_ms=customer.deadline_ms,
        created_at=customer.created_at,
    )


CUSTOMER = {
    "id": "cus_0193a6b2c4d87e1fa2b3c4d5e6f70819",
    "company_name": "Acme Robotics",
    "email": "ops@acme.example",
    "tier": "pro",
    "limits": {"per_minute": 100, "per_day": 10_000, "per_month": 100_000, "concurrency": 16},
    "is_active": True,
    "is_zero_retention": False,
    "data_policy": "standard",
    "spend_cap_cents": 500_000,
    "deadline_ms": None,
    "created_at": "2026-11-27T18:30:00Z",
}
_PATH = "/admin/v1/customers"

OPERATOR_ENDPOINTS = (
    Endpoint(
        method="POST",
        path=_PATH,
        name="create_customer",
        summary="A customer and their first key",
        serve=create,
        status=201,
        body_example={"company_name": "Acme Robotics", "email": "ops@acme.example", "tier": "pro"},
        answer_example={"customer": CUSTOMER, "key": ISSUED},
    ),
    Endpoint(
        method="GET",
        path=_PATH,
        name="list_customers",
        summary="Customers, newest first",
        serve=list_page,
        answer_example={"data": [CUSTOMER], "next_cursor": None},
    ),
    Endpoint(
        method="GET",
        path=f"{_PATH}/{{customer}}",
        name="show_customer",
        summary="One customer",
        serve=show,
        answer_example=CUSTOMER,
    ),
    Endpoint(
        method="PATCH",
        path=f"{_PATH}/{{customer}}",
        name="change_customer",
        summary="Another tier, limits, activation, retention, spend cap or deadline",
        serve=change,
        body_example={"tier": "enterprise", "per_minute": None},
        answer_example={"customer": CUSTOMER, "is_announced": True},
    ),
)
