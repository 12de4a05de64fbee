"""The office of the operators' tests, customers with keys, and rows in the log as the recorder makes them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx

from billing.tiers import Tier
from control_plane.customers.verbs import CreatedCustomer
from control_plane.usage.event import UsageEvent, encode
from control_plane.usage.intake import Intake
from control_plane.usage.partitions import days_ahead, ensure_partitions
from tests.control_plane.keys.conftest import a_customer
from tests.control_plane.operators.conftest import Office, office, office_settings
from tests.control_plane.usage.making import make_event

__all__ = ["Office", "office", "office_settings"]


async def customer_of(office: Office, **options: Any) -> CreatedCustomer:
    """One more customer."""
    return await a_customer(office.stores, **{"tier": Tier.PRO, **options})


async def asked(office: Office, key: str, method: str, path: str, **options: Any) -> httpx.Response:
    """One call with a customer's key."""
    return await office.client.request(method, f"/v1{path}", headers={"Authorization": f"Bearer {key}"}, **options)


async def recorded(office: Office, events: Sequence[UsageEvent]) -> None:
    """These events, as the recorder stores them."""
    connection = await asyncpg.connect(str(office.settings.database_url))
    try:
        now = datetime.now(UTC)
        await ensure_partitions(connection, days_ahead(now.date(), count=1))
        await Intake().take(connection, list(map(encode, events)), now=now)
    finally:
        await connection.close()


def event_of(customer: CreatedCustomer, **values: Any) -> UsageEvent:
    """An answered request of that customer's first key."""
    return make_event(customer.customer.id, **{"key_id": customer.key.id, **values})
