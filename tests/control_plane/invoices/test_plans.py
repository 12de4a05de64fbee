"""A change of plan: previewed, written once, in force at its instant in bills and limits, refused where a month is closed."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import asyncpg
import pytest

from billing.terms import OwnPrices
from billing.tiers import Tier
from control_plane.audit.record import By
from control_plane.customers.verbs import NewCustomer, create_customer
from control_plane.errors import ApiError
from control_plane.identity.lookup import look_up
from control_plane.identity.public_id import new_id
from control_plane.invoices.drafting import draft
from control_plane.invoices.finalize import finalize
from control_plane.invoices.plans import (
    MAX_CENTS,
    MAX_COMMITTED,
    MAX_UNIT_CENTS,
    Plan,
    apply_due,
    cancel_planned,
    change_plan,
    preview_plan,
)
from control_plane.invoices.seller import STAND_IN
from control_plane.keys.verbs import NewKey, Stores
from tests.control_plane.eventually import eventually
from tests.control_plane.invoices.making import BEGIN, OCTOBER, SEPTEMBER, a_customer, close, totals, use

_TIER = "SELECT tier FROM customer_accounts WHERE id = $1"
_ROWS = (
    "SELECT tier, canceled_at IS NULL AS holds, created_by FROM subscriptions WHERE customer_id = $1 ORDER BY effective_at, id"
)


def soon(**ahead: float) -> datetime:
    """An instant to come."""
    return datetime.now(UTC) + timedelta(**ahead)


async def test_a_preview_changes_nothing_and_says_what_the_change_then_does(database: asyncpg.Connection, stores: Stores) -> None:
    acme = await a_customer(database)
    plan = Plan(tier=Tier.ENTERPRISE, effective_at=soon(seconds=3600), own=OwnPrices(per_request_cents=Decimal("0.5")))
    shown = await preview_plan(stores.engine, acme, plan)
    assert await database.fetchval("SELECT count(*) FROM subscriptions") == 1
    done = await change_plan(stores, acme, plan)
    assert [(line.kind, line.amount_cents) for line in shown.after] == [(line.kind, line.amount_cents) for line in done.after]
    assert sum(line.amount_cents for line in shown.before) == 50_000
    assert shown.difference_cents()["USD"] > 0


async def test_a_planned_change_comes_into_the_limits_when_its_time_has_come(
    database: asyncpg.Connection, stores: Stores
) -> None:
    acme = await a_customer(database)
    await change_plan(stores, acme, Plan(tier=Tier.ENTERPRISE, effective_at=soon(hours=1)))
    assert await apply_due(stores) == 0
    assert await database.fetchval(_TIER, acme) == "pro"
    await change_plan(stores, acme, Plan(tier=Tier.FREE, effective_at=soon(seconds=0.9)))

    async def is_in_force() -> bool:  # on a slow machine its instant may have come before it was written
        await apply_due(stores)
        return bool(await database.fetchval(_TIER, acme) == "free")

    await eventually(is_in_force)
    assert await database.fetchval(_TIER, acme) == "free"
    assert await apply_due(stores) == 0
    rows = [(row["tier"], row["holds"]) for row in await database.fetch(_ROWS, acme)]
    assert rows == [("pro", True), ("free", True), ("enterprise", False)]  # the later plan was canceled by the new one


async def test_a_change_for_now_holds_at_once_and_is_one_row(database: asyncpg.Connection, stores: Stores) -> None:
    acme = await a_customer(database)
    await change_plan(stores, acme, Plan(tier=Tier.ENTERPRISE))
    assert await database.fetchval(_TIER, acme) == "enterprise"
    rows = [(row["tier"], row["created_by"]) for row in await database.fetch(_ROWS, acme)]
    assert rows == [("pro", "account"), ("enterprise", "test")]


async def test_what_is_planned_can_be_taken_back(database: asyncpg.Connection, stores: Stores) -> None:
    acme = await a_customer(database)
    await change_plan(stores, acme, Plan(tier=Tier.FREE, effective_at=soon(days=3)))
    assert [await cancel_planned(stores, acme) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (Plan(tier=Tier.PRO, effective_at=datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)), "effective_at"),
        (Plan(tier=Tier.PRO, effective_at=datetime(2026, 12, 1)), "effective_at"),  # noqa: DTZ001 -- that is the point
        (Plan(tier=Tier.PRO, effective_at=datetime(2999, 12, 1, tzinfo=UTC)), "effective_at"),
        (Plan(tier=Tier.PRO, own=OwnPrices(currency="EUR")), "currency"),
        (Plan(tier=Tier.PRO, own=OwnPrices(currency="XXX", monthly_cents=1, per_request_cents=Decimal(1))), "currency"),
        (Plan(tier=Tier.PRO, own=OwnPrices(per_request_cents=Decimal("NaN"))), "per_request_cents"),
        (Plan(tier=Tier.PRO, own=OwnPrices(per_request_cents=Decimal("-1"))), "per_request_cents"),
        (Plan(tier=Tier.PRO, own=OwnPrices(overage_per_request_cents=Decimal(1))), "overage_per_request_cents"),
        (Plan(tier=Tier.PRO, own=OwnPrices(committed_requests=0)), "committed_requests"),
        (Plan(tier=Tier.PRO, own=OwnPrices(discount_basis_points=10_001)), "discount"),
        (Plan(tier=Tier.PRO, own=OwnPrices(monthly_cents=-1)), "monthly_cents"),
        (Plan(tier=Tier.PRO, reason=" "), "reason"),
        (Plan(tier=Tier.PRO, effective_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))), "effective_at"),
        (Plan(tier=Tier.PRO, effective_at=datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14)))), "effective_at"),
        (Plan(tier=Tier.PRO, own=OwnPrices(per_request_cents=Decimal("1E-20000"))), "per_request_cents"),
        (Plan(tier=Tier.PRO, own=OwnPrices(per_request_cents=Decimal(10**6 + 1))), "per_request_cents"),
        (Plan(tier=Tier.PRO, own=OwnPrices(committed_requests=10**9 + 1)), "committed_requests"),
    ],
)
async def test_what_cannot_be_is_refused_by_name_and_changes_nothing(
    database: asyncpg.Connection, stores: Stores, plan: Plan, field: str
) -> None:
    acme = await a_customer(database)
    await close(stores.engine, SEPTEMBER)
    await close(stores.engine, OCTOBER)
    with pytest.raises(ApiError) as refused:
        await change_plan(stores, acme, plan)
    assert refused.value.param == field
    assert await database.fetchval("SELECT count(*) FROM subscriptions") == 1


async def test_a_month_can_be_changed_until_the_customers_invoice_of_it_is_final(
    database: asyncpg.Connection, stores: Stores
) -> None:
    acme, late = await a_customer(database), await a_customer(database)
    plan = Plan(tier=Tier.ENTERPRISE, effective_at=BEGIN + timedelta(days=10))
    assert (await preview_plan(stores.engine, acme, plan)).difference_cents() == {"USD": 133_334}  # 166.67 + 1,666.67 - 500.00
    seller, by = STAND_IN, By(actor="test")
    async with stores.engine.begin() as connection:  # a close that is killed after the first of two customers
        (draft_,) = await draft(connection, acme, SEPTEMBER, seller)
        await finalize(connection, draft_.id, seller, by)
    with pytest.raises(ApiError, match="at or after 2026-10-01"):
        await change_plan(stores, acme, plan)
    await change_plan(stores, late, plan)
    await close(stores.engine, SEPTEMBER)
    assert sorted((await totals(database, SEPTEMBER)).values()) == [50_000, 50_000 + 133_334]


async def test_the_largest_plan_that_is_accepted_can_be_invoiced(database: asyncpg.Connection, stores: Stores) -> None:
    acme = await a_customer(database)
    own = OwnPrices(monthly_cents=MAX_CENTS, per_request_cents=Decimal(MAX_UNIT_CENTS), committed_requests=MAX_COMMITTED)
    await change_plan(stores, acme, Plan(tier=Tier.PRO, effective_at=BEGIN, own=own))
    await use(database, acme, SEPTEMBER, 2_000_000_000)
    await close(stores.engine, SEPTEMBER)
    assert list((await totals(database, SEPTEMBER)).values()) == [MAX_CENTS + 2 * MAX_UNIT_CENTS * MAX_COMMITTED]


async def test_a_change_before_the_last_change_is_refused(database: asyncpg.Connection, stores: Stores) -> None:
    acme = await a_customer(database)
    await change_plan(stores, acme, Plan(tier=Tier.ENTERPRISE))
    with pytest.raises(ApiError, match="after that"):
        await change_plan(stores, acme, Plan(tier=Tier.FREE, effective_at=soon(minutes=-5)))


async def test_nobody_has_no_plan(stores: Stores) -> None:
    with pytest.raises(ApiError, match="there is no customer"):
        await change_plan(stores, new_id(), Plan(tier=Tier.FREE))
    with pytest.raises(ApiError, match="there is no customer"):
        await preview_plan(stores.engine, new_id(), Plan(tier=Tier.FREE))


async def test_a_spend_cap_counts_with_the_customers_own_prices(database: asyncpg.Connection, stores: Stores) -> None:
    new = NewCustomer(company_name="Acme", email="acme@example.com", tier=Tier.ENTERPRISE)
    created = await create_customer(stores, new, NewKey())
    await database.execute("UPDATE customer_accounts SET spend_cap_cents = 300000")

    async def most() -> int | None:
        record = await look_up(stores.engine, created.key.digest)
        return None if record is None else record.most_billable

    async def agreed(tier: Tier, **own: object) -> None:
        """As if it had been agreed long ago, so that one price holds for all of this month."""
        await database.execute("UPDATE subscriptions SET canceled_at = now(), canceled_by = 'test' WHERE canceled_at IS NULL")
        names = "".join(f", {name}" for name in own)
        places = "".join(f", ${at}" for at in range(3, 3 + len(own)))
        await database.execute(
            f"INSERT INTO subscriptions (id, effective_at, created_by, customer_id, tier{names})"  # noqa: S608 -- names above
            f" VALUES (uuidv7(), '2026-01-01Z', 'test', $1, $2{places})",
            created.customer.id,
            tier.value,
            *own.values(),
        )

    await agreed(Tier.ENTERPRISE)
    assert await most() == 50_000
    dear = {"committed_requests": 1_000, "per_request_cents": Decimal(2), "overage_per_request_cents": Decimal("0.5")}
    await agreed(Tier.ENTERPRISE, **dear)
    assert await most() == 1_000 + 96_000  # (3,000.00 − 2,500.00 − 20.00) at half a cent
    await agreed(Tier.ENTERPRISE, discount_basis_points=5_000)
    assert await most() == 350_001  # 6,000.01 less half of it is 3,000.00 when the half cent goes to the discount
    await agreed(Tier.PRO)
    assert await most() is None


async def test_a_change_in_the_month_never_lets_a_spend_cap_be_passed(database: asyncpg.Connection, stores: Stores) -> None:
    new = NewCustomer(company_name="Acme", email="acme@example.com", tier=Tier.ENTERPRISE)
    created = await create_customer(stores, new, NewKey())
    await database.execute("UPDATE customer_accounts SET spend_cap_cents = 300000")
    before = await look_up(stores.engine, created.key.digest)
    own = OwnPrices(committed_requests=1_000, per_request_cents=Decimal(2), overage_per_request_cents=Decimal("0.5"))
    await change_plan(stores, created.customer.id, Plan(tier=Tier.ENTERPRISE, own=own))
    after = await look_up(stores.engine, created.key.digest)
    assert before is not None
    assert after is not None
    # A part of a month costs a part of the fee; the dearest price of the month counts for all of it.
    assert 50_000 <= (before.most_billable or 0) <= 300_000
    assert 0 < (after.most_billable or 0) <= (before.most_billable or 0)
