"""What can be done with customers. Each verb is one transaction, then an announcement about every key of the customer.

As in `keys.verbs`: what was committed stays so when Redis is away, and the result says whether processes were told.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from billing.tiers import Tier
from control_plane.audit.record import Change, record
from control_plane.customers.data_policy import NewDataPolicy, agreed
from control_plane.customers.tables import customer_accounts
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.data_policy import DataPolicy
from control_plane.identity.principal import RateLimits, limits_in_force
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.fields import clean_email, clean_name, positive
from control_plane.keys.tables import api_keys
from control_plane.keys.verbs import IssuedKey, NewKey, Stores, announce, issue, key_created, no_such
from control_plane.limits.limiter import forget_spending
from control_plane.redis import REDIS_AWAY

MAX_COMPANY_NAME = 200
MAX_CENTS = 10**12
MAX_DEADLINE_MS = 600_000


# The limits that a customer may have of their own; None goes back to the tier's, and what is not named stays as it is.
LIMITS = ("per_minute", "per_day", "per_month", "concurrency")
Overrides = Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCustomer:
    """What is known about a customer at the beginning."""

    company_name: str
    email: str
    tier: Tier = Tier.FREE
    overrides: Overrides = field(default_factory=dict)
    is_zero_retention: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerSummary:
    """A customer as lists show them; `limits` are those in force."""

    id: UUID
    company_name: str
    email: str
    tier: Tier
    limits: RateLimits
    is_active: bool
    is_zero_retention: bool
    data_policy: DataPolicy
    data_policy_version: int
    data_consent_id: UUID | None
    data_keep_days: int | None
    spend_cap_cents: int | None  # what a month may cost at most; None: no cap
    deadline_ms: int | None  # of a request that names none; None: the service's
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedCustomer:
    """A new customer with their first key, and whether running processes were told."""

    customer: CustomerSummary
    key: IssuedKey
    is_announced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedCustomer:
    """A customer after a change, and whether running processes were told."""

    customer: CustomerSummary
    is_announced: bool


def clean_company_name(text: str) -> str:
    """One line of visible text. Raises ApiError naming company_name."""
    return clean_name(text, field="company_name", max_length=MAX_COMPANY_NAME)


async def create_customer(stores: Stores, new: NewCustomer, key: NewKey) -> CreatedCustomer:
    """The customer and their first key, or neither."""
    with database_errors():
        async with stores.engine.begin() as connection:
            customer, issued = await insert_customer(connection, stores, new, key)
    return CreatedCustomer(customer=customer, key=issued, is_announced=await announce(stores.redis, [issued.digest]))


async def insert_customer(
    connection: AsyncConnection, stores: Stores, new: NewCustomer, key: NewKey
) -> tuple[CustomerSummary, IssuedKey]:
    """The same inside the caller's transaction; the caller announces the key after its commit."""
    values = {
        "id": new_id(),
        "company_name": clean_company_name(new.company_name),
        "email": clean_email(new.email),
        "tier": new.tier.value,
        "is_zero_retention": new.is_zero_retention,
        "data_policy": (DataPolicy.ZERO if new.is_zero_retention else DataPolicy.STANDARD).value,
        **_checked(new.overrides),
    }
    statement = insert(customer_accounts).values(values).on_conflict_do_nothing().returning(customer_accounts)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise ApiError("invalid_field", "email belongs to a customer already.", param="email")
    issued = await issue(connection, row.id, key, pepper=stores.pepper)
    await record(connection, stores.by, _change_of("customer.create", row.id, after=_recorded(row)))
    await record(connection, stores.by, key_created(row.id, issued))
    return _summary(row), issued


async def set_tier(stores: Stores, customer_id: UUID, tier: Tier) -> ChangedCustomer:
    """Another tier, from the next request on. Overrides stay."""
    return await _change(stores, customer_id, {"tier": tier.value})


async def set_limits(stores: Stores, customer_id: UUID, overrides: Overrides) -> ChangedCustomer:
    """Limits of the customer's own."""
    if not overrides:
        raise ApiError("missing_field", f"say which limit: one of {', '.join(LIMITS)}.", param="limits")
    return await _change(stores, customer_id, _checked(overrides))


async def set_active(stores: Stores, customer_id: UUID, *, is_active: bool) -> ChangedCustomer:
    """Whether any key of this customer is let in."""
    return await _change(stores, customer_id, {"is_active": is_active})


async def change_customer(stores: Stores, customer_id: UUID, changes: Mapping[str, Any]) -> ChangedCustomer:
    """Several things at once, or none of them: tier, is_active, is_zero_retention, spend cap, deadline and the LIMITS."""
    values: dict[str, Any] = {"is_active": changes["is_active"]} if "is_active" in changes else {}
    values |= _checked(changes)
    if "tier" in changes:
        values["tier"] = Tier(changes["tier"]).value
    if "spend_cap_cents" in changes:
        values["spend_cap_cents"] = _within("spend_cap_cents", changes["spend_cap_cents"], 0, MAX_CENTS)
    if "deadline_ms" in changes:
        values["deadline_ms"] = _within("deadline_ms", changes["deadline_ms"], 1, MAX_DEADLINE_MS)
    if not values and "is_zero_retention" not in changes:
        raise ApiError("missing_field", "say what to change.", param="customer")
    policy = None
    if "is_zero_retention" in changes:
        policy = NewDataPolicy(policy=DataPolicy.ZERO if changes["is_zero_retention"] else DataPolicy.STANDARD)
    return await _change(stores, customer_id, values, policy=policy)


async def set_data_policy(stores: Stores, customer_id: UUID, new: NewDataPolicy) -> ChangedCustomer:
    """What may be kept of the customer's requests, from the next one on. What was kept before stays until it is deleted."""
    return await _change(stores, customer_id, {}, policy=new)


async def show_customer(engine: AsyncEngine, customer_id: UUID) -> CustomerSummary:
    """One customer."""
    query = select(customer_accounts).where(customer_accounts.c.id == customer_id)
    with database_errors():
        async with engine.connect() as connection:
            row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise no_such("customer", public_id("cus", customer_id))
    return _summary(row)


async def page_customers(engine: AsyncEngine, *, before_id: UUID | None, limit: int) -> Sequence[CustomerSummary]:
    """Newest first, for lists that are read page by page."""
    query = select(customer_accounts).order_by(customer_accounts.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(customer_accounts.c.id < before_id)
    with database_errors():
        async with engine.connect() as connection:
            return [_summary(row) for row in await connection.execute(query)]


async def set_spend_cap(stores: Stores, customer_id: UUID, cap_cents: int | None) -> ChangedCustomer:
    """What a UTC month may cost at most, fee included, from the next request on; None: no cap.

    What is spent is counted anew from the stores, so setting the same cap again heals a count that is too high.
    """
    return await change_customer(stores, customer_id, {"spend_cap_cents": cap_cents})


async def set_deadline(stores: Stores, customer_id: UUID, deadline_ms: int | None) -> ChangedCustomer:
    """How long requests may take that name no `deadline_ms`, from the next one on; None: as the service says."""
    return await change_customer(stores, customer_id, {"deadline_ms": deadline_ms})


async def list_customers(engine: AsyncEngine) -> Sequence[CustomerSummary]:
    """All customers, oldest first."""
    query = select(customer_accounts).order_by(customer_accounts.c.created_at, customer_accounts.c.id)
    with database_errors():
        async with engine.connect() as connection:
            return [_summary(row) for row in await connection.execute(query)]


async def _change(
    stores: Stores, customer_id: UUID, values: Mapping[str, object], *, policy: NewDataPolicy | None = None
) -> ChangedCustomer:
    is_the_customer = customer_accounts.c.id == customer_id
    with database_errors():
        async with stores.engine.begin() as connection:
            before = (await connection.execute(select(customer_accounts).where(is_the_customer).with_for_update())).one_or_none()
            if before is None:
                raise no_such("customer", public_id("cus", customer_id))
            if policy is not None:
                values = {**values, **await agreed(connection, before, policy, actor=stores.by.actor)}
            statement = update(customer_accounts).where(is_the_customer).values(values).returning(customer_accounts)
            row = (await connection.execute(statement)).one()
            told = {kind: {name: getattr(of, name) for name in values} for kind, of in (("before", before), ("after", row))}
            await record(connection, stores.by, _change_of("customer.change", customer_id, **told))
            keys = await connection.scalars(select(api_keys.c.digest).where(api_keys.c.customer_id == customer_id))
            digests = keys.all()
    if "spend_cap_cents" in values:
        with suppress(*REDIS_AWAY):
            await forget_spending(stores.redis, customer_id)
    return ChangedCustomer(customer=_summary(row), is_announced=await announce(stores.redis, digests))


def _change_of(action: str, customer_id: UUID, **fields: Mapping[str, Any]) -> Change:
    return Change(action=action, target=public_id("cus", customer_id), customer_id=customer_id, **fields)


def _recorded(row: Row[Any]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name not in {"id", "created_at"} and value is not None}


def _checked(overrides: Overrides) -> dict[str, int | None]:
    return {name: positive(overrides[name], field=name) for name in LIMITS if name in overrides}


def _within(field_name: str, number: int | None, least: int, most: int) -> int | None:
    if number is not None and not least <= number <= most:
        raise ApiError("invalid_field", f"{field_name} must be a whole number from {least} to {most}.", param=field_name)
    return number


def _summary(row: Row[Any]) -> CustomerSummary:
    tier = Tier(row.tier)
    return CustomerSummary(
        id=row.id,
        company_name=row.company_name,
        email=row.email,
        tier=tier,
        limits=limits_in_force(
            tier, per_minute=row.per_minute, per_day=row.per_day, per_month=row.per_month, concurrency=row.concurrency
        ),
        is_active=row.is_active,
        is_zero_retention=row.is_zero_retention,
        data_policy=DataPolicy.ZERO if row.is_zero_retention else DataPolicy(row.data_policy),
        data_policy_version=row.data_policy_version,
        data_consent_id=row.data_consent_id,
        data_keep_days=row.data_keep_days,
        spend_cap_cents=row.spend_cap_cents,
        deadline_ms=row.deadline_ms,
        created_at=row.created_at,
    )
