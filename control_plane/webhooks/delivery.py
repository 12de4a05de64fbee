"""Delivers what lies in the outbox of webhooks: claims one, checks its address, signs, posts, writes down the attempt.

A claim is a lease, as with e-mails, so a killed worker loses nothing and a message may arrive twice, with the same id. Redirects
are not followed, answers are not read beyond a little, everything ends in time. Dead after the last pause; replayable.
"""

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import httpx
from sqlalchemy import Row, insert, text, update
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks import Webhook
from structlog.typing import FilteringBoundLogger

from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id, public_id
from control_plane.metrics import Metrics
from control_plane.sealed import SealBrokenError, unseal
from control_plane.webhooks.destination import resolve
from control_plane.webhooks.tables import webhook_attempts, webhook_deliveries, webhook_endpoints
from control_plane.webhooks.verbs import PURPOSE

_GONE = 410
_ANSWER_BYTES = 10_000  # read so far to be polite; nothing in it is looked at
_CLAIM = text("""
    UPDATE webhook_deliveries d SET attempts = d.attempts + 1, next_attempt_at = now() + make_interval(secs => :lease_s)
    FROM webhook_messages m, webhook_endpoints e
    WHERE d.id IN (
        SELECT w.id FROM webhook_deliveries w JOIN webhook_endpoints o ON o.id = w.endpoint_id
        WHERE w.status = 'waiting' AND w.next_attempt_at <= now() AND o.is_enabled
        ORDER BY w.next_attempt_at LIMIT :count FOR UPDATE OF w SKIP LOCKED
    ) AND m.id = d.message_id AND e.id = d.endpoint_id
    RETURNING d.id, d.attempts, d.message_id, d.endpoint_id, m.payload, e.url, e.sealed_secret, e.sealed_old_secret,
              e.old_secret_until
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookPace:
    """When a delivery is tried again: after each of the pauses, some 28 hours in all, then it is dead."""

    lease_s: float = 60.0  # longer than an attempt
    timeout_s: float = 15.0
    pauses_s: tuple[float, ...] = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200)
    at_once: int = 8

    def wait_after(self, attempts: int) -> timedelta | None:
        """With jitter; None when it was the last attempt."""
        if attempts > len(self.pauses_s):
            return None
        return timedelta(seconds=self.pauses_s[attempts - 1] * random.uniform(0.8, 1.2))  # noqa: S311 -- jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    status_code: int | None
    error: str | None
    duration_ms: int

    @property
    def is_taken(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """What it takes to deliver."""

    engine: AsyncEngine
    pepper: bytes
    is_loopback_allowed: bool
    metrics: Metrics
    log: FilteringBoundLogger
    pace: WebhookPace = WebhookPace()

    async def step(self) -> None:
        """Delivers what is due, some at once, so that one slow receiver does not hold up the others. Raises DatabaseAwayError."""
        rows = await self._claim()
        if not rows:  # every second: a client is only made for somebody, because it reads all the certificates there are
            return
        # Proxies and .netrc of this machine's environment are not for addresses that customers choose.
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=self.pace.timeout_s) as client:
            while rows:
                await asyncio.gather(*(self._deliver(client, row) for row in rows))
                rows = await self._claim()

    async def _claim(self) -> list[Row[Any]]:
        with database_errors():
            async with self.engine.begin() as connection:
                found = await connection.execute(_CLAIM, {"lease_s": self.pace.lease_s, "count": self.pace.at_once})
                return list(found.all())

    async def _deliver(self, client: httpx.AsyncClient, row: Row[Any]) -> None:
        started_s = perf_counter()
        status_code, error = None, None
        try:
            async with asyncio.timeout(self.pace.timeout_s):
                status_code = await self._post(client, row)
        except ApiError as refusal:
            error = refusal.message
        except SealBrokenError:
            error = "the signing secret cannot be read"
        except TimeoutError:
            error = f"no answer within {self.pace.timeout_s:g} s"
        except httpx.HTTPError as failure:
            error = type(failure).__name__
        attempt = _Attempt(status_code=status_code, error=error, duration_ms=round((perf_counter() - started_s) * 1e3))
        await self._write_down(row, attempt)

    async def _post(self, client: httpx.AsyncClient, row: Row[Any]) -> int:
        to = await resolve(row.url, is_loopback_allowed=self.is_loopback_allowed)
        headers = {
            "Host": to.host_header,
            "Content-Type": "application/json",
            "User-Agent": "vlaapi-webhooks",
            **self._signed(row),
        }
        extensions = {"sni_hostname": to.host}  # the certificate must be the name's, though we connect to its address
        async with client.stream("POST", to.url, content=row.payload.encode(), headers=headers, extensions=extensions) as answer:
            size = 0
            async for chunk in answer.aiter_raw():
                size += len(chunk)
                if size > _ANSWER_BYTES:
                    break
            return answer.status_code

    def _signed(self, row: Row[Any]) -> dict[str, str]:
        now, id_ = datetime.now(UTC), public_id("msg", row.message_id)
        sealed = [row.sealed_secret]
        if row.sealed_old_secret is not None and row.old_secret_until > now:
            sealed.append(row.sealed_old_secret)
        secrets = [unseal(data, pepper=self.pepper, purpose=PURPOSE, about=row.endpoint_id.bytes) for data in sealed]
        signatures = [Webhook(secret).sign(id_, now, row.payload) for secret in secrets]
        return {
            "webhook-id": id_,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    async def _write_down(self, row: Row[Any], attempt: _Attempt) -> None:
        wait = self.pace.wait_after(row.attempts)
        is_dead = not attempt.is_taken and (wait is None or attempt.status_code == _GONE)
        values: dict[str, Any] = {"last_status_code": attempt.status_code, "last_error": attempt.error}
        if attempt.is_taken:
            values |= {"status": "delivered", "delivered_at": datetime.now(UTC)}
        elif is_dead:
            values |= {"status": "dead"}
        else:
            values |= {"next_attempt_at": datetime.now(UTC) + (wait or timedelta())}
        statement = update(webhook_deliveries).where(webhook_deliveries.c.id == row.id).values(values)
        if not attempt.is_taken:  # another worker may have delivered it since our lease ended
            statement = statement.where(webhook_deliveries.c.status == "waiting")
        told = {"status_code": attempt.status_code, "error": attempt.error, "duration_ms": attempt.duration_ms}
        with database_errors():
            async with self.engine.begin() as connection:
                # The endpoint may have been deleted meanwhile, and its deliveries with it.
                if (await connection.execute(statement.returning(webhook_deliveries.c.id))).one_or_none() is None:
                    return
                await connection.execute(insert(webhook_attempts).values(id=new_id(), delivery_id=row.id, **told))
                if attempt.status_code == _GONE:  # the receiver's word for "never again"
                    off = update(webhook_endpoints).where(webhook_endpoints.c.id == row.endpoint_id).values(is_enabled=False)
                    await connection.execute(off)
        self._tell(row, attempt, is_dead=is_dead)

    def _tell(self, row: Row[Any], attempt: _Attempt, *, is_dead: bool) -> None:
        outcome = "delivered" if attempt.is_taken else "dead" if is_dead else "retried"
        self.metrics.webhooks.labels(outcome).inc()
        write = self.log.error if is_dead else self.log.info
        id_ = public_id("whd", row.id)
        write(f"webhook {outcome}", delivery=id_, attempts=row.attempts, status_code=attempt.status_code, error=attempt.error)
