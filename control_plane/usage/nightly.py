"""What the worker does about metering every night: compare rows, roll-ups and Redis counters, repair from the rows, and tell.

The same is behind `vlaapi usage reconcile`, which only looks unless it is told to repair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import asyncpg
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics
from control_plane.usage.month_counters import CounterDifference, NotDrainedError, compare_counters, repair_counters
from control_plane.usage.reconcile import reconcile
from control_plane.usage.recorder import Connect
from control_plane.usage.repair import Repair, repair

WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where rows, roll-ups and counters are."""

    engine: AsyncEngine
    connect: Connect
    redis: Redis


async def reconcile_recent(stores: Sources, metrics: Metrics, log: FilteringBoundLogger, *, patience_s: float = 60.0) -> None:
    """The month of yesterday, and the current one too when it has turned. Raises what the stores raise when they are away."""
    now = datetime.now(UTC)
    months = {instant.date().replace(day=1) for instant in (now - timedelta(days=1), now)}
    found = [difference for month in sorted(months) for difference in await reconcile(stores.engine, month)]
    connection = await stores.connect()
    try:
        repairs = await repair(connection, found, by=WORKER)
        counters = await _counters(connection, stores.redis, now.date(), log, patience_s=patience_s)
    finally:
        await connection.close()
    _tell(repairs, counters, metrics, log)
    metrics.bookkeeping.reconcile_difference.set(len(found) + len(counters))
    metrics.bookkeeping.reconcile_at.set(now.timestamp())


async def _counters(
    connection: "asyncpg.Connection", redis: Redis, today: date, log: FilteringBoundLogger, *, patience_s: float
) -> Sequence[CounterDifference]:
    try:
        found = await compare_counters(connection, redis, today.replace(day=1), patience_s=patience_s)
    except NotDrainedError as error:
        log.warning("counters not compared", detail=str(error))
        return ()
    return await repair_counters(connection, redis, found, by=WORKER)


def _tell(repairs: Sequence[Repair], counters: Sequence[CounterDifference], metrics: Metrics, log: FilteringBoundLogger) -> None:
    for one in repairs:
        found = one.difference
        log.error(
            "roll-up differs from the log",
            roll_up=found.roll_up,
            customer_id=str(found.customer_id),
            starts_on=str(found.starts_on),
            counts=found.counts,
            is_repaired=one.is_repaired,
            reason=one.reason,
        )
        if one.is_repaired:
            metrics.bookkeeping.repairs.labels(found.roll_up).inc()
    for counter in counters:
        log.warning(
            "counter differs from the log",
            customer_id=str(counter.customer_id),
            used=counter.used,
            at_least=counter.at_least,
            at_most=counter.at_most,
            changed_by=counter.changed_by,
        )
        if counter.changed_by:
            metrics.bookkeeping.repairs.labels("month_counter").inc()
