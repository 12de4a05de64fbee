"""One key's record from PostgreSQL, by digest: the truth that every cache copies. Knows no cache.

Plain SQL, because the tables belong to `keys`, `customers` and `guarding`, which are built on identity, not the other way round.
"""

import time
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import LargeBinary, Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from billing.money import round_cents
from billing.spend_cap import most_billable
from billing.terms import OwnPrices, terms_of
from billing.tiers import Tier, price_versions, version_on
from control_plane.db import database_errors
from control_plane.identity.principal import limits_in_force
from control_plane.identity.record import KeyRecord

_QUERY = text("""
    SELECT k.id::text AS key_id, k.customer_id::text, k.per_minute AS key_per_minute, k.revoked_at, k.expires_at,
           k.is_test, k.robots, k.policies, k.allowed_ips,
           c.company_name, c.tier, c.is_active, c.is_zero_retention, c.per_minute, c.per_day, c.per_month, c.concurrency,
           c.spend_cap_cents, c.deadline_ms, p.currency, p.monthly_cents, p.per_request_cents, p.committed_requests,
           p.overage_per_request_cents,
           p.discount_basis_points,
           s.version AS safety_version, s.document::text AS safety_document, s.preset AS safety_preset
    FROM api_keys k JOIN customer_accounts c ON c.id = k.customer_id
    LEFT JOIN safety_settings s ON s.customer_id = c.id AND NOT s.is_cleared
    LEFT JOIN LATERAL (
        SELECT * FROM subscriptions WHERE c.spend_cap_cents IS NOT NULL AND customer_id = c.id AND tier = c.tier
            AND effective_at <= now() AND canceled_at IS NULL ORDER BY effective_at DESC, id DESC LIMIT 1
    ) AS p ON true
    WHERE k.digest = :digest
""").bindparams(bindparam("digest", type_=LargeBinary))


async def look_up(engine: AsyncEngine, digest: bytes) -> KeyRecord | None:
    """The record, or None when no such key exists. Raises DatabaseAwayError."""
    read_at_s = time.time()  # before the statement: a record never seems younger than it is
    with database_errors():
        # Autocommit: a single SELECT needs no BEGIN and no ROLLBACK, which would be two more round trips.
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            row = (await connection.execute(_QUERY, {"digest": digest})).one_or_none()
    return None if row is None else _record(row, read_at_s)


def _most_billable(row: Row[tuple[object, ...]]) -> int | None:
    """The customer's spend cap as a number of requests."""
    if row.spend_cap_cents is None:
        return None
    own = OwnPrices(
        currency=row.currency,
        monthly_cents=row.monthly_cents,
        per_request_cents=row.per_request_cents,
        committed_requests=row.committed_requests,
        overage_per_request_cents=row.overage_per_request_cents,
        discount_basis_points=row.discount_basis_points or 0,
    )
    terms = terms_of(Tier(row.tier), own, version_on(price_versions(), datetime.now(UTC).date()))
    committed = terms.committed_requests or 0
    return most_billable(
        row.spend_cap_cents,
        fixed_cents=terms.monthly_cents + round_cents(terms.per_request_cents * committed),
        per_request_cents=terms.beyond_cents,
        included=committed,
        discount_basis_points=terms.discount_basis_points,
    )


def _record(row: Row[tuple[object, ...]], read_at_s: float) -> KeyRecord:
    tier = Tier(row.tier)
    limits = limits_in_force(
        tier, per_minute=row.per_minute, per_day=row.per_day, per_month=row.per_month, concurrency=row.concurrency
    )
    return KeyRecord(
        read_at_s=read_at_s,
        key_id=UUID(row.key_id),
        customer_id=UUID(row.customer_id),
        company_name=row.company_name,
        tier=tier,
        per_minute=limits.per_minute,
        per_day=limits.per_day,
        per_month=limits.per_month,
        concurrency=limits.concurrency,
        key_per_minute=row.key_per_minute,
        is_zero_retention=row.is_zero_retention,
        is_active=row.is_active,
        is_revoked=row.revoked_at is not None,
        expires_at_s=None if row.expires_at is None else row.expires_at.timestamp(),
        safety_version=row.safety_version or 0,
        safety_document=row.safety_document or "",
        safety_preset=row.safety_preset,
        is_test=row.is_test,
        robots=None if row.robots is None else frozenset(row.robots),
        policies=None if row.policies is None else frozenset(row.policies),
        allowed_ips=None if row.allowed_ips is None else tuple(row.allowed_ips),
        most_billable=_most_billable(row),
        deadline_ms=row.deadline_ms,
    )
