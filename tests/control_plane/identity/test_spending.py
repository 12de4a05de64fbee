"""A spend cap under what the customer really pays: the price list's prices, their own, and the fee of a month that began late."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.control_plane.identity.conftest import AddKey, Observing

LONG_AGO = datetime.now(UTC) - timedelta(days=70)
_OWN_PRICES = text("""
    INSERT INTO subscriptions
        (id, customer_id, effective_at, tier, monthly_cents, per_request_cents, committed_requests, created_by)
    VALUES (uuidv7(), :customer, :at, 'enterprise', 1000, 4, 100, 'test')
""")


async def test_own_prices_count_and_the_commitment_is_part_of_the_month(
    engine: AsyncEngine, add_key: AddKey, observing: Observing
) -> None:
    listed = await add_key(tier="enterprise", spend_cap_cents=250_040, created_at=LONG_AGO)
    own = await add_key(tier="enterprise", spend_cap_cents=1_440, created_at=LONG_AGO)
    free = await add_key(tier="pro", spend_cap_cents=0, created_at=LONG_AGO)
    late = await add_key(tier="enterprise", spend_cap_cents=250_040)
    async with engine.begin() as connection:
        await connection.execute(_OWN_PRICES, {"customer": own.customer_id, "at": LONG_AGO + timedelta(seconds=2)})
    async with observing() as process:
        principals = [await process.authenticator.authenticate(key.header) for key in (listed, own, free, late)]
    # 1,440 cents less the fee of 1,000 and 100 committed at 4: 40 cents are ten requests more.
    assert [principal.most_billable for principal in principals[:3]] == [40, 110, None]
    assert (principals[3].most_billable or 0) >= 40  # whose fee is that of a part of the month
