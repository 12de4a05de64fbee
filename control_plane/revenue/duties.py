"""What the worker does for revenue: rates the open months again, writes the costs down, looks whether the books are true."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from billing.tiers import price_versions, version_on
from control_plane.revenue.costs import Costs, keep_costs
from control_plane.revenue.open_month import refresh
from control_plane.settings import Settings

REFRESH_EVERY_S = 600.0
CHECK_EVERY_S = 3600.0
FIRST_AFTER_S = 90.0  # a start has better things to do


def costs_of(settings: Settings) -> Costs:
    """In the currency of the price list in force."""
    return Costs(
        currency=version_on(price_versions(), datetime.now(UTC).date()).currency,
        gpu_cents_per_h=settings.gpu_cost_cents_per_h,
        server_cents_per_h=settings.server_cost_cents_per_h,
    )


async def keep_revenue(engine: AsyncEngine, costs: Costs) -> None:
    """What SQL shows of the open months is at most ten minutes old."""
    async with engine.begin() as connection:
        await keep_costs(connection, costs)
    await refresh(engine)
