"""Runs the invariants of billing in one snapshot and tells: per truth a gauge, per violation a line. For worker and command."""

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from billing.invariants import INVARIANTS, Scope, Violation
from control_plane.db import database_errors
from control_plane.invoices.reading import read_statement
from control_plane.metrics import Metrics

__all__ = ["EVER", "HourlyCheck", "Violation", "check"]

EVER = date(2000, 1, 1)


async def check(engine: AsyncEngine, *, since: date = EVER) -> dict[str, list[Violation]]:
    """Every truth and its violations, all of one moment. Raises DatabaseAwayError."""
    with database_errors():
        async with engine.connect() as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            scope = Scope(since=since, read_statement=read_statement)
            return {name: await holds(connection, scope) for name, holds in INVARIANTS.items()}


class HourlyCheck:
    """What the worker does: rows and invoices of this month and the last one, and once a day everything."""

    def __init__(self, *, engine: AsyncEngine, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._engine = engine
        self._metrics = metrics
        self._log = log
        self._whole_on: date | None = None

    async def step(self) -> None:
        """One look. Raises DatabaseAwayError."""
        now = datetime.now(UTC)
        today = now.date()
        since = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
        found = await check(self._engine, since=since if self._whole_on == today else EVER)
        self._whole_on = today
        for name, violations in found.items():
            self._metrics.bookkeeping.violations.labels(name).set(len(violations))
            for violation in violations:
                self._log.error("invariant violated", invariant=name, detail=violation.detail)
        self._metrics.bookkeeping.checked_at.set(now.timestamp())
