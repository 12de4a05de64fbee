"""Writes a customer's drafts of a month, one per currency, from what was used and what the plan says. Again: from nothing.

In the caller's transaction, which has locked the customer. A final invoice is never touched: whoever has one is left as is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.rating import METERED, Line, rate, with_balance
from billing.segments import Segment, segments
from billing.terms import Subscription
from billing.tiers import price_versions
from control_plane.identity.public_id import new_id, public_id
from control_plane.invoices.json_text import as_json_text
from control_plane.invoices.metered import Key, Usage, key_of, read_subscriptions, read_usage
from control_plane.invoices.seller import Seller

_LOCK = text("SELECT company_name, email FROM customer_accounts WHERE id = :customer_id FOR NO KEY UPDATE")
_IS_FINAL = text("SELECT 1 FROM invoices WHERE customer_id = :customer_id AND month = :month AND state <> 'draft' LIMIT 1")
_FORGET_DRAFTS = text("DELETE FROM invoices WHERE customer_id = :customer_id AND month = :month")
_FORGET_SETTLED = text("DELETE FROM rated_usage WHERE customer_id = :customer_id AND month = :month")

_INVOICE = text("""
    INSERT INTO invoices (id, customer_id, month, currency, legal_entity, total_cents, seller, buyer, prices)
    VALUES (:id, :customer_id, :month, :currency, :legal_entity, :total_cents,
            CAST(:seller AS jsonb), CAST(:buyer AS jsonb), CAST(:prices AS jsonb))
""")
_LINE = text("""
    INSERT INTO invoice_lines (invoice_id, position, kind, description, service_month, starts_at, ends_at, subscription_id, tier,
                               price_version, is_late, quantity, unit_cents, amount_cents)
    VALUES (:invoice_id, :position, :kind, :description, :service_month, :starts_at, :ends_at, :subscription_id, :tier,
            :price_version, :is_late, :quantity, :unit_cents, :amount_cents)
""")
_RATED = text("""
    INSERT INTO rated_usage (customer_id, day, subscription_id, month, quantity, is_late, invoice_id, position)
    SELECT :customer_id, r.day, r.subscription_id, :month, r.quantity, r.day < :month, r.invoice_id, r.position
    FROM unnest(CAST(:days AS date[]), CAST(:subscriptions AS uuid[]), CAST(:quantities AS bigint[]), CAST(:invoices AS uuid[]),
                CAST(:positions AS integer[])) AS r (day, subscription_id, quantity, invoice_id, position)
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One invoice as it was drafted."""

    id: UUID
    currency: str
    buyer: Mapping[str, Any]
    prices: Sequence[Mapping[str, Any]]
    lines: tuple[Line, ...]

    @property
    def total_cents(self) -> int:
        """What it asks for."""
        return sum(line.amount_cents for line in self.lines)


async def draft(connection: AsyncConnection, customer_id: UUID, month: date, seller: Seller) -> tuple[Draft, ...]:
    """The customer's drafts of that month; none where there is nothing to pay or where the month is invoiced already."""
    key = {"customer_id": customer_id, "month": month}
    account = (await connection.execute(_LOCK, {"customer_id": customer_id})).one()
    if (await connection.execute(_IS_FINAL, key)).one_or_none() is not None:
        return ()
    await connection.execute(_FORGET_DRAFTS, key)
    await connection.execute(_FORGET_SETTLED, key)
    history = await read_subscriptions(connection, customer_id)
    usage = await read_usage(connection, customer_id, history, month)
    buyer = {"customer": public_id("cus", customer_id), "company_name": account.company_name, "email": account.email}
    drafts = drafted(history, usage, month, buyer)
    for each in drafts:
        await _write(connection, each, key, seller)
    await _settle(connection, usage, key, drafts)
    return drafts


def drafted(history: Sequence[Subscription], usage: Usage, month: date, buyer: Mapping[str, Any]) -> tuple[Draft, ...]:
    """The values of the drafts. Lines of different currencies make different invoices."""
    parts = segments(history, price_versions(), month)
    lines = rate(month, parts, usage.metered)
    currencies = sorted({line.currency for line in lines if line.amount_cents})
    terms = [segment.terms for segment in dict.fromkeys((*parts, *(one.segment for one in usage.metered)))]
    return tuple(
        Draft(
            id=new_id(),
            currency=currency,
            buyer=buyer,
            prices=[each.as_json() for each in dict.fromkeys(terms) if each.currency == currency],
            lines=with_balance([line for line in lines if line.currency == currency], month),
        )
        for currency in currencies
    )


async def _write(connection: AsyncConnection, draft: Draft, key: Mapping[str, Any], seller: Seller) -> None:
    row = {
        "id": draft.id,
        "currency": draft.currency,
        "legal_entity": seller.legal_entity,
        "total_cents": draft.total_cents,
        "seller": as_json_text(seller.as_json()),
        "buyer": as_json_text(draft.buyer),
        "prices": as_json_text(draft.prices),
    }
    await connection.execute(_INVOICE, {**key, **row})
    lines = [asdict(line) | {"invoice_id": draft.id, "position": position} for position, line in enumerate(draft.lines, 1)]
    await connection.execute(_LINE, lines)


async def _settle(connection: AsyncConnection, usage: Usage, key: Mapping[str, Any], drafts: Sequence[Draft]) -> None:
    if not usage.days:
        return
    places: dict[Key, tuple[UUID, int]] = {
        (line.service_month, line.subscription_id, line.price_version): (draft.id, position)
        for draft in drafts
        for position, line in enumerate(draft.lines, 1)
        if line.kind in METERED and line.subscription_id is not None and line.price_version is not None
    }
    rows = [(day, segment, share, *places.get(key_of(segment), (None, None))) for (day, segment), share in usage.days.items()]
    columns = list(zip(*((d, _subscription(s), share, i, p) for d, s, share, i, p in rows), strict=True))
    names = ("days", "subscriptions", "quantities", "invoices", "positions")
    await connection.execute(_RATED, {**key, **{name: list(column) for name, column in zip(names, columns, strict=True)}})


def _subscription(segment: Segment) -> UUID:
    return segment.subscription.id
