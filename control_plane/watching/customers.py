"""How many customers are active, and does one suddenly ask for much more than it used to? Counted in SQL, told without names.

A spike is ten minutes with at least FLOOR requests and FACTOR times the customer's mean of the last seven days. Which customer it
is goes to the log, because a series per customer would be one per customer for ever. Run by the worker.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.db import database_errors
from control_plane.metrics import WatchMetrics

WINDOW_S = 600.0
FLOOR = 300  # requests in the window: a robot that is switched on after a week off is no spike
FACTOR = 5.0
_WINDOWS_IN_A_WEEK = 7 * 24 * 6

_SO_FAR = text("SELECT customer_id, sum(requests)::bigint FROM usage_months GROUP BY customer_id")
_LAST_WEEK = text("""
    SELECT customer_id, sum(requests)::bigint FROM usage_days
    WHERE day >= (now() AT TIME ZONE 'UTC')::date - 7 AND day < (now() AT TIME ZONE 'UTC')::date GROUP BY customer_id
""")
_ACTIVE = text("SELECT count(DISTINCT customer_id) FROM api_keys WHERE last_used_at > now() - interval '1 hour'")

Counts = Mapping[UUID, int]


@dataclass(slots=True, kw_only=True)
class CustomerWatch:
    """Remembers what it counted in the last ten minutes; after a start it knows nothing for that long."""

    engine: AsyncEngine
    metrics: WatchMetrics
    log: FilteringBoundLogger
    clock: Callable[[], float] = time.monotonic
    _seen: deque[tuple[float, Counts]] = field(default_factory=deque)
    _spiking: frozenset[UUID] = frozenset()

    async def step(self) -> None:
        """One look. Raises DatabaseAwayError."""
        with database_errors():
            async with self.engine.connect() as connection:
                so_far, last_week = await _counts(connection, _SO_FAR), await _counts(connection, _LAST_WEEK)
                active: int = (await connection.execute(_ACTIVE)).scalar_one()
        ratios = spikes(self._before(so_far), so_far, last_week)
        self.metrics.active_customers.set(active)
        self.metrics.spiking_customers.set(len(ratios))
        self.metrics.spike_ratio.set(max(ratios.values(), default=0))
        for customer_id in sorted(ratios.keys() - self._spiking):
            self.log.warning("customer usage spike", customer_id=str(customer_id), times_its_mean=round(ratios[customer_id], 1))
        self._spiking = frozenset(ratios)

    def _before(self, so_far: Counts) -> Counts | None:
        """What had been counted a window ago; None until it has been watched for that long."""
        now = self.clock()
        self._seen.append((now, so_far))
        before = None
        while self._seen and self._seen[0][0] <= now - WINDOW_S:
            before = self._seen.popleft()
        if before is None:
            return None
        self._seen.appendleft(before)
        return before[1]


def spikes(before: Counts | None, so_far: Counts, last_week: Counts) -> dict[UUID, float]:
    """Every customer above the line, and how many times its own mean (never less than what makes FLOOR a spike)."""
    if before is None:
        return {}
    found = {}
    for customer_id, total in so_far.items():
        asked = total - before.get(customer_id, 0)
        usual = max(last_week.get(customer_id, 0) / _WINDOWS_IN_A_WEEK, FLOOR / FACTOR)
        if asked >= FACTOR * usual:
            found[customer_id] = asked / usual
    return found


async def _counts(connection: AsyncConnection, statement: object) -> dict[UUID, int]:
    return {row[0]: row[1] for row in await connection.execute(statement)}  # type: ignore[call-overload]
