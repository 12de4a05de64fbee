"""One key's record from PostgreSQL, by digest: the truth that every cache copies. Knows no cache.

Plain SQL, because the tables belong to `keys`, `customers` and `guarding`, which are built on identity, not the other way round.
"""

import time
from uuid import UUID

from sqlalchemy import LargeBinary, Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from billing.tiers import Tier
from control_plane.db import database_errors
from control_plane.identity.data_policy import DataPolicy
from control_plane.identity.principal import limits_in_force
from control_plane.identity.record import KeyRecord
from control_plane.identity.spending import most_billable_of

_QUERY = text("""
    SELECT k.id::text AS key_id, k.customer_id::text, k.per_minute AS key_per_minute, k.revoked_at, k.expires_at,
           k.is_test, k.robots, k.policies, k.allowed_ips, k.data_policy AS key_data_policy,
           c.company_name, c.tier, c.is_active, c.per_minute, c.per_day, c.per_month, c.concurrency,
           c.spend_cap_cents, c.deadline_ms, c.data_policy_version, c.data_consent_id::text, c.data_keep_days,
           CASE WHEN c.is_zero_retention THEN 'zero' ELSE c.data_policy END AS data_policy, -- a release before this set the first
           s.version AS safety_version, s.document::text AS safety_document, s.preset AS safety_preset
    FROM api_keys k JOIN customer_accounts c ON c.id = k.customer_id
    LEFT JOIN safety_settings s ON s.customer_id = c.id AND NOT s.is_cleared
    WHERE k.digest = :digest
""").bindparams(bindparam("digest", type_=LargeBinary))


async def look_up(engine: AsyncEngine, digest: bytes) -> KeyRecord | None:
    """The record, or None when no such key exists. Raises DatabaseAwayError."""
    read_at_s = time.time()  # before the statement: a record never seems younger than it is
    with database_errors():
        # Autocommit: a single SELECT needs no BEGIN and no ROLLBACK, which would be two more round trips.
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            row = (await connection.execute(_QUERY, {"digest": digest})).one_or_none()
            most = None if row is None or row.spend_cap_cents is None else await most_billable_of(connection, row)
    return None if row is None else _record(row, read_at_s, most)


def _record(row: Row[tuple[object, ...]], read_at_s: float, most_billable: int | None) -> KeyRecord:
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
        most_billable=most_billable,
        deadline_ms=row.deadline_ms,
        data_policy=DataPolicy(row.data_policy),
        data_policy_version=row.data_policy_version,
        data_consent_id=None if row.data_consent_id is None else UUID(row.data_consent_id),
        data_keep_days=row.data_keep_days,
        key_data_policy=None if row.key_data_policy is None else DataPolicy(row.key_data_policy),
    )
