"""`GET /v1/usage`: where the customer stands now, by day, and by policy. Nothing is spent by asking.

What is left comes from Redis, which decides it; while Redis is away it is told as counted from the recorded rows, and said so.
Days come from the roll-ups that invoices are made of; policies are counted from the rows of the same days, within a time limit.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import DatabaseAwayError, database_errors
from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.identity.principal import Principal
from control_plane.limits.look import Look, Used, look
from control_plane.redis import REDIS_AWAY

_DAYS = text("""
    SELECT day, requests, billable_requests, refused, invalid, failed FROM usage_days
    WHERE customer_id = :customer AND day >= :since ORDER BY day DESC
""")
_MONTH = text("SELECT requests FROM usage_months WHERE customer_id = :customer AND month = :month")
_POLICIES = text("""
    SELECT model, count(*) AS requests, count(*) FILTER (WHERE is_billable) AS billable_requests FROM inference_logs
    WHERE customer_id = :customer AND timestamp >= CAST(:since AS date) AT TIME ZONE 'UTC' AND NOT is_test
    GROUP BY model ORDER BY requests DESC, model
""")


class UsageQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How many days back, today included."""

    days: Annotated[int, Meta(ge=1, le=92)] = 31


class LimitStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One limit: null limit and remaining mean unlimited, null used that it is not known at present."""

    limit: int | None
    used: int | None
    remaining: int | None
    resets_at: datetime | None


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """`source`: limits, or rows while the store of limits is away; then minute and concurrency are not known."""

    source: str
    minute: LimitStanding
    day: LimitStanding
    month: LimitStanding
    concurrency: LimitStanding


class DayUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One UTC day, as recorded; some seconds behind."""

    day: date
    requests: int
    billable_requests: int
    refused: int
    invalid: int
    failed: int


class PolicyUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One model over the days that were asked for."""

    model: str
    requests: int
    billable_requests: int


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """`by_model` null: it could not be counted in time; ask for fewer days."""

    tier: str
    is_test: bool
    now: Now
    by_day: tuple[DayUsage, ...]
    by_model: tuple[PolicyUsage, ...] | None


async def show(by: Principal, call: Call, *, query: UsageQuery) -> UsageReport:
    """Everything at once; limits are those of the key's kind (live or test)."""
    today = datetime.now(UTC).date()
    since = today - timedelta(days=query.days - 1)
    engine, wanted = call.stores.engine, {"customer": by.customer_id, "since": since}
    days = await _rows(engine, _DAYS, wanted)
    try:
        now = _now(await look(call.stores.redis, by), source="limits")
    except REDIS_AWAY:
        months = await _rows(engine, _MONTH, {"customer": by.customer_id, "month": today.replace(day=1)})
        now = _from_rows(by, sum(row.requests for row in days if row.day == today), sum(row.requests for row in months))
    return UsageReport(
        tier=by.tier.value,
        is_test=by.is_test,
        now=now,
        by_day=tuple(DayUsage(**row._mapping) for row in days),
        by_model=await _by_model(engine, wanted),
    )


async def _by_model(engine: AsyncEngine, wanted: dict[str, Any]) -> tuple[PolicyUsage, ...] | None:
    try:
        return tuple(PolicyUsage(**row._mapping) for row in await _rows(engine, _POLICIES, wanted))
    except DatabaseAwayError:
        return None


async def _rows(engine: AsyncEngine, query: Any, values: dict[str, Any]) -> Sequence[Row[Any]]:
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(query, values)).all()


def _now(seen: Look, *, source: str) -> Now:
    return Now(
        source=source,
        minute=_standing(seen.minute),
        day=_standing(seen.day),
        month=_standing(seen.month),
        concurrency=_standing(seen.concurrency),
    )


def _from_rows(by: Principal, day_used: int, month_used: int) -> Now:
    limits, used = by.limits, not by.is_test  # rows of test keys are in no roll-up
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow, first = now + timedelta(days=1), (now.replace(day=1) + timedelta(days=32)).replace(day=1)
    unknown = LimitStanding(limit=None, used=None, remaining=None, resets_at=None)
    day = _standing(Used(limit=limits.per_day, used=day_used, resets_at=tomorrow))
    month = _standing(Used(limit=limits.per_month, used=month_used, resets_at=first))
    return Now(
        source="rows",
        minute=msgspec.structs.replace(unknown, limit=limits.per_minute),
        day=day if used else msgspec.structs.replace(unknown, limit=limits.per_day, resets_at=tomorrow),
        month=month if used else msgspec.structs.replace(unknown, limit=limits.per_month, resets_at=first),
        concurrency=msgspec.structs.replace(unknown, limit=limits.concurrency),
    )


def _standing(used: Used) -> LimitStanding:
    return LimitStanding(limit=used.limit, used=used.used, remaining=used.remaining, resets_at=used.resets_at)


def _example(limit: int | None, used: int, resets_at: str | None) -> dict[str, Any]:
    return {"limit": limit, "used": used, "remaining": None if limit is None else limit - used, "resets_at": resets_at}


_DAY = {"day": "2026-11-27", "requests": 1250, "billable_requests": 1200, "refused": 30, "invalid": 20, "failed": 0}
_EXAMPLE = {
    "tier": "pro",
    "is_test": False,
    "now": {
        "source": "limits",
        "minute": _example(100, 3, "2026-11-27T18:30:02Z"),
        "day": _example(10_000, 1250, "2026-11-28T00:00:00Z"),
        "month": _example(100_000, 36_450, "2026-12-01T00:00:00Z"),
        "concurrency": _example(16, 1, None),
    },
    "by_day": [_DAY],
    "by_model": [{"model": "tabletop", "requests": 1250, "billable_requests": 1200}],
}

OWN_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/usage",
        name="show_usage",
        summary="What you have used and what is left: now, by day, by model",
        serve=show,
        answer_example=_EXAMPLE,
    ),
)
