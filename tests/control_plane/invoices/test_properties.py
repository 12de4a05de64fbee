"""Whatever is sent, twice, late, in any order, around any change of plan and any end of a month: each request is paid for once.

The oracle knows nothing of days, segments or closes: it looks at each request's instant, finds the plan in force, and adds up.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.money import round_cents
from control_plane.db import create_engine
from control_plane.usage.event import encode
from control_plane.usage.inference_logs import store
from control_plane.usage.partitions import ensure_partitions
from control_plane.usage.rows import Row, examine
from deploy.embedded.postgres import Cluster
from tests.conftest import a_database, outside
from tests.control_plane.invoices.making import a_customer, change_plan, close
from tests.control_plane.usage.making import make_event

MONTHS = [date(2024, 1, 1), date(2024, 2, 1), date(2025, 2, 1), date(2025, 12, 1), date(2026, 4, 1)]  # and the two after each


@dataclass(frozen=True)
class Plan:
    """A change of plan at an instant, as it was typed somewhere in the world."""

    at: datetime
    tier: str
    monthly_cents: int
    per_request_cents: Decimal
    committed_requests: int | None


@dataclass(frozen=True)
class Sent:
    """A request, how often its event arrives, and whether only after its month was closed."""

    at: datetime
    copies: int
    is_late: bool


def month_after(month: date, n: int = 1) -> date:
    """Some months later."""
    index = month.year * 12 + month.month - 1 + n
    return date(index // 12, index % 12 + 1, 1)


def start(month: date) -> datetime:
    """Its first instant."""
    return datetime(month.year, month.month, 1, tzinfo=UTC)


@st.composite
def histories(draw: st.DrawFn) -> tuple[date, list[Plan], list[Sent]]:
    """A first month of two, the changes in them, and what was sent."""
    month = draw(st.sampled_from(MONTHS))
    begin, end = start(month), start(month_after(month, 2))
    seconds = int((end - begin).total_seconds())
    zone = timezone(timedelta(hours=draw(st.integers(-12, 14))))
    changes = draw(st.lists(st.integers(1, seconds - 1), max_size=3, unique=True).map(sorted))
    plans = [draw(a_plan(begin + timedelta(seconds=second), zone)) for second in (0, *changes)]
    middle = int((start(month_after(month)) - begin).total_seconds())
    edges = [edge + shift for edge in (0, middle, seconds, *changes) for shift in (-1, 0, 1) if 0 <= edge + shift < seconds]
    instants = st.one_of(st.sampled_from(edges), st.integers(0, seconds - 1))
    sent = [
        Sent(at=begin + timedelta(seconds=draw(instants)), copies=draw(st.integers(1, 3)), is_late=draw(st.booleans()))
        for _ in range(draw(st.integers(0, 25)))
    ]
    return month, plans, sent


@st.composite
def a_plan(draw: st.DrawFn, at: datetime, zone: timezone) -> Plan:
    """Own prices, so that every request costs something."""
    return Plan(
        at=at.astimezone(zone),
        tier=draw(st.sampled_from(["free", "pro", "enterprise"])),
        monthly_cents=draw(st.integers(0, 1_000_000)),
        per_request_cents=draw(st.decimals(0, 5, places=4)),
        committed_requests=draw(st.one_of(st.none(), st.integers(1, 40))),
    )


def expected(month: date, plans: Sequence[Plan], sent: Sequence[Sent]) -> dict[tuple[date, int], int]:
    """Cents of metered usage by month and plan, from the instants alone."""
    counts: dict[tuple[date, int], int] = {}
    for one in sent:
        index = max(n for n, plan in enumerate(plans) if plan.at <= one.at)
        key = (date(one.at.year, one.at.month, 1), index)
        counts[key] = counts.get(key, 0) + 1
    return {
        (of, index): round_cents(plans[index].per_request_cents * max(0, count - committed(of, plans, index)))
        for (of, index), count in counts.items()
    }


def share(of: date, plans: Sequence[Plan], index: int) -> Fraction:
    """The part of the month in which that plan was in force."""
    begin, end = start(of), start(month_after(of))
    until = plans[index + 1].at if index + 1 < len(plans) else end
    overlap = max(timedelta(0), min(end, until) - max(begin, plans[index].at))
    return Fraction(int(overlap.total_seconds()), int((end - begin).total_seconds()))


def committed(of: date, plans: Sequence[Plan], index: int) -> int:
    """Its part of the committed requests."""
    return round_cents((plans[index].committed_requests or 0) * share(of, plans, index))


async def ingest(database: asyncpg.Connection, customer_id: UUID, batch: Sequence[Row], seed: int) -> None:
    """In another order, cut into transactions somewhere."""
    rows = sorted(batch, key=lambda row: hash((row.request_id, seed)))
    await ensure_partitions(database, {row.occurred_at.date() for row in rows})
    half = len(rows) // 2
    for part in (rows[:half], rows[half:]):
        await store(database, part)


async def live(url: str, month: date, plans: Sequence[Plan], sent: Sequence[Sent]) -> None:
    """Three months of it, and what must be true afterwards."""
    database, engine = await asyncpg.connect(url), create_engine(url, pool_size=1, timeout_s=30)
    try:
        customer = await a_customer(database, tier="free", created_at=start(month))
        ids = {
            await change_plan(
                database,
                customer,
                plan.at,
                plan.tier,
                monthly_cents=plan.monthly_cents,
                per_request_cents=plan.per_request_cents,
                committed_requests=plan.committed_requests,
            ): index
            for index, plan in enumerate(plans)
        }
        events = [(one, rows_of(customer, one)) for one in sent]
        for n in range(3):
            closing = month_after(month, n)
            due = [rows for one, rows in events if month_after(first(one), one.is_late) <= closing]  # with replays of all before
            await ingest(database, customer, [row for rows in due for row in rows], seed=n)
            await close(engine, closing)
        billed = await database.fetch("""
            SELECT service_month, subscription_id, sum(amount_cents)::bigint AS cents FROM invoice_lines
            WHERE kind IN ('usage', 'overage') GROUP BY 1, 2
        """)
        wanted = expected(month, plans, sent)
        assert {(row["service_month"], ids[row["subscription_id"]]): row["cents"] for row in billed if row["cents"]} == {
            key: cents for key, cents in wanted.items() if cents
        }
        assert (await database.fetchval("SELECT sum(quantity) FROM rated_usage") or 0) == len(sent)
        await fees_are_right(database, month, plans, ids)
    finally:
        await engine.dispose()
        await database.close()


async def fees_are_right(database: asyncpg.Connection, month: date, plans: Sequence[Plan], ids: dict[UUID, int]) -> None:
    """Each fee within a cent of its share, and the fees of a month at one price together exactly."""
    rows = await database.fetch("SELECT service_month, subscription_id, amount_cents FROM invoice_lines WHERE kind = 'fee'")
    for of in (month, month_after(month)):
        asked = {ids[row["subscription_id"]]: row["amount_cents"] for row in rows if row["service_month"] == of}
        for price in {plan.monthly_cents for plan in plans}:
            same = [index for index, plan in enumerate(plans) if plan.monthly_cents == price]
            exact = {index: price * share(of, plans, index) for index in same}
            assert sum(asked.get(index, 0) for index in same) == round_cents(sum(exact.values(), Fraction(0)))
            assert all(abs(asked.get(index, 0) - cents) < 1 for index, cents in exact.items())


def first(one: Sent) -> date:
    """The month in which it was sent."""
    return date(one.at.year, one.at.month, 1)


def rows_of(customer: UUID, one: Sent) -> list[Row]:
    """The same event as often as it arrives."""
    row = examine(encode(make_event(customer, at=one.at)), now=one.at)
    assert isinstance(row, Row)
    return [row] * one.copies


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=histories())
def test_each_request_is_paid_for_once_at_the_price_of_its_instant(
    cluster: Cluster, history: tuple[date, list[Plan], list[Sent]]
) -> None:
    month, plans, sent = history
    with a_database(cluster) as url:
        outside(lambda: asyncio.run(live(url, month, plans, sent)))
