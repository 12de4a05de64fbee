"""What a customer has used and what of it is settled, read for one close. Roll-ups and corrections only; never Redis.

Rows of the log are counted in one case: to divide a day in which the plan changed. In the caller's transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.metering import Part, shares
from billing.rating import Metered, Settled
from billing.segments import Segment, at, first_of_month, midnight, next_month, segments
from billing.terms import OwnPrices, Subscription
from billing.tiers import Tier, price_versions, version_on

_SUBSCRIPTIONS = text("""
    SELECT * FROM subscriptions WHERE customer_id = :customer_id AND canceled_at IS NULL ORDER BY effective_at, id
""")

# What drafts of this month settle does not count; a month before that is still open has an invoice of its own to come.
_UNSETTLED = text("""
    SELECT day, sum(quantity)::bigint AS quantity FROM (
        SELECT day, billable_requests AS quantity FROM usage_days WHERE customer_id = :customer_id AND day < :beyond
        UNION ALL SELECT day, quantity FROM usage_adjustments WHERE customer_id = :customer_id AND day < :beyond
        UNION ALL SELECT day, -quantity FROM rated_usage
        WHERE customer_id = :customer_id AND day < :beyond AND month <> :month
    ) AS counted
    WHERE day >= :month OR day < (SELECT (billing_open_from() AT TIME ZONE 'UTC')::date)
    GROUP BY day HAVING sum(quantity) <> 0 ORDER BY day
""")

_SETTLED = text("""
    SELECT day, subscription_id, sum(quantity)::bigint AS quantity FROM rated_usage
    WHERE customer_id = :customer_id AND day >= :first AND day < :beyond AND month <> :month GROUP BY day, subscription_id
""")

_ASKED = text("""
    SELECT l.service_month, l.subscription_id, l.price_version, sum(l.amount_cents)::bigint AS cents
    FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id
    WHERE i.customer_id = :customer_id AND l.kind IN ('usage', 'overage') AND l.service_month >= :first AND i.month <> :month
    GROUP BY l.service_month, l.subscription_id, l.price_version
""")

_ROWS = text("""
    SELECT span.n, (
        SELECT count(*) FROM inference_logs
        WHERE customer_id = :customer_id AND is_billable AND timestamp >= span.begins AND timestamp < span.ends
    ) AS rows
    FROM unnest(CAST(:begins AS timestamptz[]), CAST(:ends AS timestamptz[])) WITH ORDINALITY AS span (begins, ends, n)
    ORDER BY span.n
""")

Key = tuple[date, UUID, str]  # a segment in the tables: month, subscription, version of the prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What is to be rated, and the days it is made of."""

    metered: tuple[Metered, ...]
    days: Mapping[tuple[date, Segment], int]


async def read_subscriptions(connection: AsyncConnection, customer_id: UUID) -> tuple[Subscription, ...]:
    """The customer's history and what is planned."""
    rows = await connection.execute(_SUBSCRIPTIONS, {"customer_id": customer_id})
    return tuple(
        Subscription(
            id=row.id,
            effective_at=row.effective_at,
            tier=Tier(row.tier),
            is_active=row.is_active,
            own=OwnPrices(
                currency=row.currency,
                monthly_cents=row.monthly_cents,
                per_request_cents=row.per_request_cents,
                committed_requests=row.committed_requests,
                overage_per_request_cents=row.overage_per_request_cents,
                discount_basis_points=row.discount_basis_points,
            ),
        )
        for row in rows
    )


async def read_usage(connection: AsyncConnection, customer_id: UUID, history: Sequence[Subscription], month: date) -> Usage:
    """Everything used before the end of the month that no final invoice has settled."""
    parameters = {"customer_id": customer_id, "month": month, "beyond": next_month(month)}
    unsettled = {row.day: row.quantity for row in await connection.execute(_UNSETTLED, parameters)}
    if not unsettled:
        return Usage(metered=(), days={})
    first = first_of_month(min(unsettled))
    parts = {each: segments(history, price_versions(), each) for each in {first_of_month(day) for day in unsettled}}
    settled = await _settled_days(connection, customer_id, first, month)
    days: dict[tuple[date, Segment], int] = {}
    for day, quantity in unsettled.items():
        overlapping = at(parts[first_of_month(day)], day)
        rows = await _rows(connection, customer_id, day, overlapping) if len(overlapping) > 1 else [0]
        sides = [
            Part(segment=segment, rows=count, settled=settled.get((day, segment.subscription.id), 0))
            for segment, count in zip(overlapping, rows, strict=True)
        ]
        divided = zip(overlapping, shares(quantity, sides), strict=True)
        days |= {(day, segment): share for segment, share in divided if share}
    asked = await _asked(connection, customer_id, first, month) if settled else {}
    return Usage(metered=_metered(days, settled, asked), days=days)


def key_of(segment: Segment) -> Key:
    """How the tables name a segment."""
    return segment.month, segment.subscription.id, segment.terms.price_version


def _metered(
    days: Mapping[tuple[date, Segment], int], settled: Mapping[tuple[date, UUID], int], asked: Mapping[Key, int]
) -> tuple[Metered, ...]:
    quantities: dict[Segment, int] = {}
    for (_, segment), share in days.items():
        quantities[segment] = quantities.get(segment, 0) + share
    before: dict[Key, int] = {}
    for (day, subscription_id), quantity in settled.items():
        key = (first_of_month(day), subscription_id, version_on(price_versions(), day).name)
        before[key] = before.get(key, 0) + quantity
    return tuple(
        Metered(
            segment=segment,
            quantity=quantity,
            settled=Settled(quantity=before.get(key_of(segment), 0), amount_cents=asked.get(key_of(segment), 0)),
        )
        for segment, quantity in sorted(quantities.items(), key=lambda item: item[0].starts_at)
    )


async def _settled_days(connection: AsyncConnection, customer_id: UUID, first: date, month: date) -> dict[tuple[date, UUID], int]:
    parameters = {"customer_id": customer_id, "first": first, "month": month, "beyond": next_month(month)}
    return {(row.day, row.subscription_id): row.quantity for row in await connection.execute(_SETTLED, parameters)}


async def _asked(connection: AsyncConnection, customer_id: UUID, first: date, month: date) -> dict[Key, int]:
    rows = await connection.execute(_ASKED, {"customer_id": customer_id, "first": first, "month": month})
    return {(row.service_month, row.subscription_id, row.price_version): row.cents for row in rows}


async def _rows(connection: AsyncConnection, customer_id: UUID, day: date, parts: Sequence[Segment]) -> list[int]:
    """What the log has on each side; the outer sides reach to the ends of the day."""
    cuts = [part.starts_at for part in parts[1:]]
    parameters = {
        "customer_id": customer_id,
        "begins": [midnight(day), *cuts],
        "ends": [*cuts, midnight(day + timedelta(days=1))],
    }
    return [row.rows for row in await connection.execute(_ROWS, parameters)]
