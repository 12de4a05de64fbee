"""Finds who has crossed 80, 95 or 100 % of a limit and tells them, one transaction per look: the alert's row, mail and webhook.

Counted from the roll-ups (some seconds behind). The row's key makes every alert happen once, however many workers look; of
several thresholds crossed at one look only the highest is told. Run by the worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from structlog.typing import FilteringBoundLogger

from billing.tiers import tier_terms
from control_plane.db import database_errors
from control_plane.identity.public_id import public_id
from control_plane.mail.letters import Letterhead, write_letter
from control_plane.mail.outbox import Mail, enqueue
from control_plane.webhooks.publish import Message, publish

THRESHOLDS = (80, 95, 100)
EVENT = "usage.threshold_reached"

# What failed by our fault was given back to the limits; of a spend cap counts what the fixed fee leaves for requests.
_CROSSED = text("""
    WITH terms AS (
        SELECT * FROM unnest(CAST(:tiers AS text[]), CAST(:days AS bigint[]), CAST(:months AS bigint[]),
                             CAST(:fixed AS numeric[]), CAST(:prices AS numeric[]))
                      AS t (tier, per_day, per_month, fixed_cents, request_cents)
    ), standing AS (
        SELECT a.id, 'day' AS kind, d.day AS period, d.requests - d.failed AS used, COALESCE(a.per_day, t.per_day) AS quota
        FROM usage_days d JOIN customer_accounts a ON a.id = d.customer_id JOIN terms t ON t.tier = a.tier
        WHERE d.day = :today AND a.is_active
        UNION ALL
        SELECT a.id, 'month', m.month, m.requests - m.failed, COALESCE(a.per_month, t.per_month)
        FROM usage_months m JOIN customer_accounts a ON a.id = m.customer_id JOIN terms t ON t.tier = a.tier
        WHERE m.month = :first AND a.is_active
        UNION ALL
        SELECT a.id, 'spend', m.month, m.billable_requests,
               GREATEST(0, floor((a.spend_cap_cents - t.fixed_cents) / t.request_cents))::bigint
        FROM usage_months m JOIN customer_accounts a ON a.id = m.customer_id JOIN terms t ON t.tier = a.tier
        WHERE m.month = :first AND a.is_active AND a.spend_cap_cents IS NOT NULL AND t.request_cents > 0
    ), told AS (
        INSERT INTO usage_alerts AS kept (customer_id, kind, period, threshold, used, quota)
        SELECT id, kind, period, threshold, used, quota
        FROM standing CROSS JOIN unnest(CAST(:thresholds AS integer[])) AS h (threshold)
        WHERE quota IS NOT NULL AND used > 0 AND used * 100 >= quota * threshold
        ORDER BY id, kind, period, threshold
        ON CONFLICT DO NOTHING
        RETURNING customer_id, kind, period, threshold, used, quota
    )
    SELECT DISTINCT ON (customer_id, kind) told.*, a.email, a.company_name, a.tier FROM told
    JOIN customer_accounts a ON a.id = told.customer_id ORDER BY customer_id, kind, threshold DESC
""")
_NAMES = {"day": "daily quota", "month": "monthly quota", "spend": "spend cap"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """What it takes to look and tell."""

    engine: AsyncEngine
    letterhead: Letterhead
    log: FilteringBoundLogger

    async def step(self) -> None:
        """One look at everybody. Raises DatabaseAwayError."""
        with database_errors():
            async with self.engine.begin() as connection:
                for row in await _crossed(connection, datetime.now(UTC).date()):
                    await self._tell(connection, row)

    async def _tell(self, connection: AsyncConnection, row: Row[Any]) -> None:
        key = f"usage-alert {row.customer_id.hex} {row.kind} {row.period} {row.threshold}"
        resets_on = _end_of(row.kind, row.period)
        told = {
            "limit": row.kind,
            "threshold_pct": row.threshold,
            "used": row.used,
            "quota": row.quota,
            "period": str(row.period),
            "resets_at": f"{resets_on}T00:00:00Z",
        }
        message = Message(type=EVENT, data={"customer": public_id("cus", row.customer_id), **told}, dedupe_key=key)
        await publish(connection, row.customer_id, message)
        values = {**told, "company_name": row.company_name, "name": _NAMES[row.kind], "resets_on": resets_on, "tier": row.tier}
        letter = write_letter("usage_alert", self.letterhead, values)
        mail = Mail(to=row.email, subject=letter.subject, text=letter.text, html=letter.html, dedupe_key=key)
        await enqueue(connection, mail)
        self.log.info("usage alert", customer_id=str(row.customer_id), limit=row.kind, threshold=row.threshold)


async def _crossed(connection: AsyncConnection, today: date) -> Sequence[Row[Any]]:
    terms = tier_terms()
    values = {
        "tiers": [tier.value for tier in terms],
        "days": [one.per_day for one in terms.values()],
        "months": [one.per_month for one in terms.values()],
        "fixed": [one.monthly_cents for one in terms.values()],
        "prices": [one.per_request_cents for one in terms.values()],
        "thresholds": list(THRESHOLDS),
        "today": today,
        "first": today.replace(day=1),
    }
    return (await connection.execute(_CROSSED, values)).all()


def _end_of(kind: str, period: date) -> date:
    return period + timedelta(days=1) if kind == "day" else (period + timedelta(days=32)).replace(day=1)
