"""Closes a month: every customer's invoice drafted and made final, its PDF kept. Killed at any point and run again, it goes on.

Each customer is one transaction, so there is all of an invoice or nothing; who has a final invoice is passed over. Documents come
after, from what was frozen. Only when all is there is the month closed, after which its plans and settled usage cannot change.
Customers are taken one after the other, so memory does not grow with their number.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from billing.money import as_text
from billing.segments import midnight, next_month
from billing.tiers import PriceVersion, price_versions
from control_plane.audit.record import By, Change, record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.invoices.documents import keep_documents
from control_plane.invoices.drafting import draft
from control_plane.invoices.finalize import finalize
from control_plane.invoices.seller import Seller

_PAGE = 500
_KEEP_PRICE = text("""
    INSERT INTO price_versions (version, tier, effective_from, currency, monthly_cents, per_request_cents)
    VALUES (:version, :tier, :effective_from, :currency, :monthly_cents, :per_request_cents)
    ON CONFLICT (version, tier) DO NOTHING
""")
_PRICES = text("SELECT * FROM price_versions")
_NEXT_OPEN = text("SELECT (max(month) + interval '1 month')::date FROM closed_months")
_FIRST_EVER = text("SELECT date_trunc('month', min(effective_at) AT TIME ZONE 'UTC')::date FROM subscriptions")
_CUSTOMERS = text("""
    SELECT a.id FROM customer_accounts a
    WHERE a.id > :after AND NOT EXISTS (
        SELECT FROM invoices i WHERE i.customer_id = a.id AND i.month = :month AND i.state <> 'draft'
    ) AND EXISTS (SELECT FROM subscriptions s WHERE s.customer_id = a.id AND s.effective_at < :beyond)
    ORDER BY a.id LIMIT :page
""")
_COUNT = text("SELECT count(*) FROM customer_accounts")
_ONE_CLOSER = text("LOCK TABLE closed_months IN SHARE ROW EXCLUSIVE MODE")
_CLOSE = text("""
    INSERT INTO closed_months (month, invoices, closed_by)
    SELECT :month, count(*), :by FROM invoices WHERE month = :month AND state <> 'draft'
    HAVING NOT EXISTS (SELECT FROM closed_months WHERE month = :month) RETURNING invoices
""")
_SUMS = text("""
    SELECT currency, count(*) AS invoices, sum(total_cents)::bigint AS cents FROM invoices
    WHERE month = :month AND state <> 'draft' GROUP BY currency ORDER BY currency
""")

Progress = Callable[[str, int, int], None]  # what is done, how many, of how many


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What became of a month."""

    month: date
    finalized: int
    documents: int
    totals: tuple[str, ...]
    was_closed: bool


def no_progress(_step: str, _done: int, _of: int) -> None:
    """For who does not watch."""


async def close_month(engine: AsyncEngine, month: date, seller: Seller, by: By, *, progress: Progress = no_progress) -> Closed:
    """Closes the month, or goes on with it, or finds that it is closed. Raises ApiError billing_period."""
    with database_errors():
        async with engine.begin() as connection:
            await keep_prices(connection)
            was_closed = await _check(connection, month)
        finalized = 0 if was_closed else await _finalize_all(engine, month, seller, by, progress)
        documents = await keep_documents(engine, month, seller, progress=progress)
        async with engine.begin() as connection:
            await connection.execute(_ONE_CLOSER)
            row = (await connection.execute(_CLOSE, {"month": month, "by": by.actor})).one_or_none()
            if row is not None:
                after = {"invoices": row.invoices}
                await record(connection, by, Change(action="month.close", target=f"{month:%Y-%m}", after=after))
            sums = (await connection.execute(_SUMS, {"month": month})).all()
    totals = tuple(f"{row.invoices} in {row.currency}: {as_text(row.cents, row.currency)}" for row in sums)
    return Closed(month=month, finalized=finalized, documents=documents, totals=totals, was_closed=was_closed)


async def draft_month(engine: AsyncEngine, month: date, seller: Seller, *, progress: Progress = no_progress) -> int:
    """Drafts of every customer's invoice, to look at; usage may still come. Returns how many there are."""
    count = 0
    with database_errors():
        async with engine.begin() as connection:
            await keep_prices(connection)
            of = await connection.scalar(_COUNT)
        async for done, customer_id in _customers(engine, month):
            async with engine.begin() as connection:
                count += len(await draft(connection, customer_id, month, seller))
            progress("drafts", done, of)
    return count


async def keep_prices(connection: AsyncConnection) -> None:
    """Copies new versions of the price list into the database. Raises ApiError price_version_changed for one that differs."""
    wanted = [_price_row(version, tier) for version in price_versions() for tier in version.prices]
    await connection.execute(_KEEP_PRICE, wanted)
    kept = {(row.version, row.tier): dict(row._mapping) for row in await connection.execute(_PRICES)}
    for row in wanted:
        if kept[row["version"], row["tier"]] != row:
            message = f"The prices of {row['tier']} in version {row['version']} are not those that were in force; add a version."
            raise ApiError("price_version_changed", message)


async def _finalize_all(engine: AsyncEngine, month: date, seller: Seller, by: By, progress: Progress) -> int:
    finalized = 0
    async with engine.connect() as connection:
        of = await connection.scalar(_COUNT)
    async for done, customer_id in _customers(engine, month):
        async with engine.begin() as connection:
            for each in await draft(connection, customer_id, month, seller):
                await finalize(connection, each.id, seller, by)
                finalized += 1
        progress("invoices", done, of)
    progress("invoices", of, of)
    return finalized


async def _customers(engine: AsyncEngine, month: date) -> AsyncIterator[tuple[int, UUID]]:
    """Who has no final invoice of that month, in the order of their ids, a page at a time."""
    after, done = UUID(int=0), 0
    parameters = {"month": month, "beyond": midnight(next_month(month)), "page": _PAGE}
    while True:
        async with engine.connect() as connection:
            page = (await connection.scalars(_CUSTOMERS, {**parameters, "after": after})).all()
        for customer_id in page:
            done += 1
            yield done, customer_id
        if len(page) < _PAGE:
            return
        after = page[-1]


async def _check(connection: AsyncConnection, month: date) -> bool:
    """Whether the month is closed already. Raises if it cannot be closed now."""
    if midnight(next_month(month)) > datetime.now(UTC):
        raise ApiError("billing_period", f"{month:%Y-%m} is not over yet (UTC).", param="month")
    following = await connection.scalar(_NEXT_OPEN)
    if following is not None and month < following:
        return True
    first = following or await connection.scalar(_FIRST_EVER)
    if first is not None and month > first:
        raise ApiError("billing_period", f"Close {first:%Y-%m} first: it is the first month that is open.", param="month")
    return False


def _price_row(version: PriceVersion, tier: str) -> dict[str, object]:
    price = next(price for each, price in version.prices.items() if each == tier)
    return {
        "version": version.name,
        "tier": str(tier),
        "effective_from": version.effective_from,
        "currency": version.currency,
        "monthly_cents": price.monthly_cents,
        "per_request_cents": price.per_request_cents,
    }
