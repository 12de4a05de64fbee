"""A customer's spend cap as a number of requests, under what they pay this month. Read with the key's record; fails closed.

Plain SQL, because the tables belong to `invoices`. Asked for customers with a cap only, at most once in two seconds per key.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.segments import segments
from billing.spend_cap import most_billable, most_billable_in
from billing.terms import OwnPrices, Subscription
from billing.tiers import Tier, price_versions, tier_terms

_OWN = ("currency", "monthly_cents", "per_request_cents", "committed_requests", "overage_per_request_cents")
_SUBSCRIPTIONS = text(f"""
    SELECT id, effective_at, tier, is_active, discount_basis_points, {", ".join(_OWN)} FROM subscriptions
    WHERE customer_id = CAST(:customer AS uuid) AND canceled_at IS NULL ORDER BY effective_at, id
""")  # noqa: S608 -- names of this module


async def most_billable_of(connection: AsyncConnection, row: Row[Any]) -> int | None:
    """`row` is a customer with a cap. None: their requests cost nothing. Raises what SQLAlchemy raises."""
    rows = await connection.execute(_SUBSCRIPTIONS, {"customer": row.customer_id})
    history = [
        Subscription(
            id=one.id,
            effective_at=one.effective_at,
            tier=Tier(one.tier),
            is_active=one.is_active,
            own=OwnPrices(discount_basis_points=one.discount_basis_points, **{name: getattr(one, name) for name in _OWN}),
        )
        for one in rows
    ]
    parts = segments(history, price_versions(), datetime.now(UTC).date().replace(day=1))
    if parts:
        return most_billable_in(row.spend_cap_cents, parts)
    terms = tier_terms()[Tier(row.tier)]
    return most_billable(row.spend_cap_cents, fixed_cents=terms.monthly_cents, per_request_cents=terms.per_request_cents)
