"""What running the service costs, from the settings to a table that SQL can join. A change counts from when it is first seen."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_NEWEST = text("SELECT * FROM cost_rates ORDER BY effective_at DESC LIMIT 1")
_KEEP = text("""
    INSERT INTO cost_rates (effective_at, currency, gpu_cents_per_h, server_cents_per_h)
    VALUES (:effective_at, :currency, :gpu_cents_per_h, :server_cents_per_h)
""")
_ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """All GPUs and all other servers together, in cents of the price list's currency an hour."""

    currency: str
    gpu_cents_per_h: Decimal
    server_cents_per_h: Decimal

    @property
    def is_set(self) -> bool:
        """Whether anybody said what it costs. Without that there is no margin."""
        return bool(self.gpu_cents_per_h or self.server_cents_per_h)


async def keep_costs(connection: AsyncConnection, costs: Costs) -> None:
    """Writes the rates down if they are new; the first ones count for the past too. Nothing while nothing is set."""
    newest = (await connection.execute(_NEWEST)).one_or_none()
    if newest is None and not costs.is_set:
        return
    row = {
        "currency": costs.currency,
        "gpu_cents_per_h": costs.gpu_cents_per_h,
        "server_cents_per_h": costs.server_cents_per_h,
    }
    if newest is not None and {name: getattr(newest, name) for name in row} == row:
        return
    await connection.execute(_KEEP, {"effective_at": _ALWAYS if newest is None else datetime.now(UTC), **row})
