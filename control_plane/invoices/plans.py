"""What a customer has, changed from an instant on: previewed to the cent, written as a new row, in force in the limits too.

A change for now holds at once; one for later is put into force by the worker (`apply_due`) within its rhythm, and billed from the
instant it names. A month that is closed takes no change. Own prices are set here and end with the tier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from billing.money import CURRENCIES
from billing.rating import Line, rate
from billing.segments import first_of_month, segments
from billing.terms import OwnPrices, Subscription
from billing.tiers import Tier, price_versions
from control_plane.audit.record import By, Change, record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id, public_id
from control_plane.invoices.metered import read_subscriptions, read_usage
from control_plane.keys.fields import clean_name
from control_plane.keys.verbs import Stores, announce, no_such

MAX_REASON = 500
MAX_AHEAD = timedelta(days=400)
# So that no sum of a month outgrows PostgreSQL's bigint, and no price Decimal's 28 digits.
MAX_CENTS, MAX_UNIT_CENTS, MAX_COMMITTED = 10**11, 10**6, 10**9
UNIT_DECIMALS = 12

_LOCK = text("SELECT tier, is_active FROM customer_accounts WHERE id = :id FOR NO KEY UPDATE")
# Until a month is closed every month is open; who has a final invoice of a month that is being closed can change it no more.
_OPEN_FROM = text("""
    SELECT NULLIF(GREATEST(billing_open_from(), (
        SELECT (max(month) + interval '1 month') AT TIME ZONE 'UTC' FROM invoices WHERE customer_id = :id AND state <> 'draft'
    )), '-infinity')
""")
_ADD = text("""
    INSERT INTO subscriptions (id, customer_id, effective_at, tier, is_active, currency, monthly_cents, per_request_cents,
                               committed_requests, overage_per_request_cents, discount_basis_points, reason, created_by)
    VALUES (:id, :customer_id, :effective_at, :tier, :is_active, :currency, :monthly_cents, :per_request_cents,
            :committed_requests, :overage_per_request_cents, :discount_basis_points, :reason, :created_by)
""")
_CANCEL = text("""
    UPDATE subscriptions SET canceled_at = now(), canceled_by = :by
    WHERE customer_id = :customer_id AND effective_at > now() AND canceled_at IS NULL RETURNING id
""")
_SET_TIER = text("UPDATE customer_accounts SET tier = :tier WHERE id = :id AND tier <> :tier")
_KEYS = text("SELECT digest FROM api_keys WHERE customer_id = :id")
# Where the tier that limits read is not the one that the history says.
_DUE = text("""
    SELECT a.id, s.tier FROM customer_accounts a JOIN LATERAL (
        SELECT tier FROM subscriptions WHERE customer_id = a.id AND effective_at <= now() AND canceled_at IS NULL
        ORDER BY effective_at DESC, id DESC LIMIT 1
    ) AS s ON s.tier <> a.tier ORDER BY a.id LIMIT 100
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A change: the tier and own prices that shall hold from `effective_at` on (None: now)."""

    tier: Tier
    own: OwnPrices = field(default_factory=OwnPrices)
    effective_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The lines of the month in which the change falls, with what was used until now, before and after it."""

    effective_at: datetime
    before: Sequence[Line]
    after: Sequence[Line]

    def difference_cents(self) -> Mapping[str, int]:
        """What the month costs more, by currency."""
        sums: dict[str, int] = {}
        for sign, lines in ((-1, self.before), (1, self.after)):
            for line in lines:
                sums[line.currency] = sums.get(line.currency, 0) + sign * line.amount_cents
        return {currency: cents for currency, cents in sorted(sums.items()) if cents} or {}


async def preview_plan(engine: AsyncEngine, customer_id: UUID, plan: Plan) -> Preview:
    """What the change would do to the month's invoice. Changes nothing."""
    with database_errors():
        async with engine.connect() as connection:
            return await _preview(connection, customer_id, _checked(plan))


async def change_plan(stores: Stores, customer_id: UUID, plan: Plan) -> Preview:
    """Writes the change; what was planned for later is canceled by it. Raises ApiError naming the field at fault."""
    checked = _checked(plan)
    with database_errors():
        async with stores.engine.begin() as connection:
            account = (await connection.execute(_LOCK, {"id": customer_id})).one_or_none()
            if account is None:
                raise no_such("customer", public_id("cus", customer_id))
            preview = await _preview(connection, customer_id, checked)
            await connection.execute(_CANCEL, {"customer_id": customer_id, "by": stores.by.actor})
            row = _row(customer_id, checked, preview.effective_at, stores.by) | {"is_active": account.is_active}
            await connection.execute(_ADD, row)
            is_now = preview.effective_at <= datetime.now(UTC)
            if is_now:
                await connection.execute(_SET_TIER, {"id": customer_id, "tier": checked.tier.value})
            await record(connection, stores.by, _change(customer_id, account.tier, row))
            digests = (await connection.scalars(_KEYS, {"id": customer_id})).all()
    if is_now:
        await announce(stores.redis, digests)
    return preview


async def cancel_planned(stores: Stores, customer_id: UUID) -> int:
    """Takes back what was planned for later. Returns how many changes that were."""
    with database_errors():
        async with stores.engine.begin() as connection:
            canceled = (await connection.scalars(_CANCEL, {"customer_id": customer_id, "by": stores.by.actor})).all()
            if canceled:
                target = public_id("cus", customer_id)
                change = Change(action="customer.cancel_plan", target=target, customer_id=customer_id, after={"n": len(canceled)})
                await record(connection, stores.by, change)
    return len(canceled)


async def apply_due(stores: Stores) -> int:
    """Puts planned changes whose instant has come into the limits. Returns how many. Called by the worker."""
    with database_errors():
        async with stores.engine.begin() as connection:
            due = (await connection.execute(_DUE)).all()
            digests: list[bytes] = []
            for row in due:
                await connection.execute(_SET_TIER, {"id": row.id, "tier": row.tier})
                digests += (await connection.scalars(_KEYS, {"id": row.id})).all()
                target = public_id("cus", row.id)
                change = Change(action="customer.plan_in_force", target=target, customer_id=row.id, after={"tier": row.tier})
                await record(connection, stores.by, change)
    if digests:
        await announce(stores.redis, digests)
    return len(due)


async def _preview(connection: AsyncConnection, customer_id: UUID, plan: Plan) -> Preview:
    now = datetime.now(UTC)
    effective_at = now if plan.effective_at is None else plan.effective_at
    await _check_open(connection, customer_id, effective_at, now)
    history = await read_subscriptions(connection, customer_id)
    if not history:
        raise no_such("customer", public_id("cus", customer_id))
    new = Subscription(id=new_id(), effective_at=effective_at, tier=plan.tier, own=plan.own, is_active=history[-1].is_active)
    kept = [one for one in history if one.effective_at <= now]
    last = (kept or history)[-1].effective_at
    if effective_at < last:
        message = f"The plan was changed at {last.isoformat()}; give an instant after that."
        raise ApiError("billing_period", message, param="effective_at")
    month = first_of_month(effective_at.date())
    lines = []
    for each in (history, [*kept, new]):
        usage = await read_usage(connection, customer_id, each, month)
        lines.append(rate(month, segments(each, price_versions(), month), usage.metered))
    return Preview(effective_at=effective_at, before=lines[0], after=lines[1])


async def _check_open(connection: AsyncConnection, customer_id: UUID, effective_at: datetime, now: datetime) -> None:
    earliest = await connection.scalar(_OPEN_FROM, {"id": customer_id})
    if earliest is not None and effective_at < earliest:
        raise ApiError("billing_period", f"effective_at must be at or after {earliest.isoformat()}.", param="effective_at")
    if effective_at > now + MAX_AHEAD:
        raise ApiError("invalid_field", f"effective_at must be within {MAX_AHEAD.days} days.", param="effective_at")


def _checked(plan: Plan) -> Plan:
    own = plan.own
    if plan.effective_at is not None and plan.effective_at.tzinfo is None:
        raise ApiError("invalid_field", "effective_at must name its time zone.", param="effective_at")
    _check_prices(own)
    if own.overage_per_request_cents is not None and own.committed_requests is None:
        raise ApiError("invalid_field", "an overage price needs committed_requests.", param="overage_per_request_cents")
    if not 0 <= own.discount_basis_points <= 10_000:
        raise ApiError("invalid_field", "discount must be from 0 to 100 percent.", param="discount")
    if own.currency is not None and own.currency not in CURRENCIES:
        raise ApiError("invalid_field", f"currency must be one of {', '.join(sorted(CURRENCIES))}.", param="currency")
    if own.currency is not None and (own.monthly_cents is None or own.per_request_cents is None):
        raise ApiError("missing_field", "a currency needs monthly_cents and per_request_cents in it.", param="currency")
    reason = None if plan.reason is None else clean_name(plan.reason, field="reason", max_length=MAX_REASON)
    return replace(plan, reason=reason, effective_at=None if plan.effective_at is None else _whole_second(plan.effective_at))


def _whole_second(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC).replace(microsecond=0)
    except OverflowError:  # in the first or the last hours that a calendar has
        raise ApiError("invalid_field", "effective_at is no instant of this calendar in UTC.", param="effective_at") from None


def _check_prices(own: OwnPrices) -> None:
    _check_number(own.monthly_cents, "monthly_cents", at_most=MAX_CENTS)
    _check_number(own.per_request_cents, "per_request_cents", at_most=MAX_UNIT_CENTS)
    _check_number(own.overage_per_request_cents, "overage_per_request_cents", at_most=MAX_UNIT_CENTS)
    committed = own.committed_requests
    if committed is not None and not 1 <= committed <= MAX_COMMITTED:
        message = f"committed_requests must be from 1 to {MAX_COMMITTED}."
        raise ApiError("invalid_field", message, param="committed_requests")


def _check_number(number: int | Decimal | None, field: str, *, at_most: int) -> None:
    exact = None if number is None else Decimal(number)
    if exact is not None and not (exact.is_finite() and 0 <= exact <= at_most):
        raise ApiError("invalid_field", f"{field} must be a number from 0 to {at_most}.", param=field)
    if exact is not None and exact != round(exact, UNIT_DECIMALS):
        raise ApiError("invalid_field", f"{field} must have at most {UNIT_DECIMALS} decimals.", param=field)


def _row(customer_id: UUID, plan: Plan, effective_at: datetime, by: By) -> dict[str, object]:
    own = plan.own
    return {
        "id": new_id(),
        "customer_id": customer_id,
        "effective_at": effective_at,
        "tier": plan.tier.value,
        "currency": own.currency,
        "monthly_cents": own.monthly_cents,
        "per_request_cents": own.per_request_cents,
        "committed_requests": own.committed_requests,
        "overage_per_request_cents": own.overage_per_request_cents,
        "discount_basis_points": own.discount_basis_points,
        "reason": plan.reason,
        "created_by": by.actor,
    }


def _change(customer_id: UUID, tier: str, row: Mapping[str, object]) -> Change:
    after = {name: str(value) for name, value in row.items() if value is not None and name not in {"id", "customer_id"}}
    target = public_id("cus", customer_id)
    return Change(action="customer.plan", target=target, customer_id=customer_id, before={"tier": tier}, after=after)
