"""What is closed goes after 90 days, what waits stays however old it is."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.customers.verbs import CreatedCustomer
from control_plane.keys.verbs import Stores
from control_plane.mail import sweep
from control_plane.mail.outbox import Attachment
from control_plane.mail.sweep import KEPT, sweep_outboxes
from control_plane.redis import create_redis
from control_plane.webhooks.publish import Message, publish
from control_plane.webhooks.verbs import NewEndpoint, create_endpoint
from tests.control_plane.keys.conftest import a_customer
from tests.control_plane.mail.conftest import put

OLD, YOUNG = KEPT + timedelta(hours=1), KEPT - timedelta(hours=1)


@pytest.fixture
async def redis(clean_redis_url: str) -> AsyncIterator[Redis]:
    redis = create_redis(clean_redis_url, timeout_s=5)
    yield redis
    await redis.aclose()


async def kept(engine: AsyncEngine, query: str) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.scalars(text(query))).all())


async def test_a_mail_that_is_closed_goes_with_what_is_attached(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_AT_ONCE", 2)  # more than one transaction
    cases = [(status, age) for status in ("sent", "dead", "waiting") for age in (OLD, YOUNG)] * 2
    for number, (status, age) in enumerate(cases):
        pdf = Attachment(filename="invoice.pdf", media_type="application/pdf", content=b"%PDF")
        id_ = await put(engine, dedupe_key=str(number), attachments=(pdf,))
        async with engine.begin() as connection:
            changed = text("UPDATE mails SET status = :status, created_at = now() - CAST(:age AS interval) WHERE id = :id")
            await connection.execute(changed, {"status": status, "age": age, "id": id_})
    assert await sweep_outboxes(engine) == 4
    id_ = await put(engine, dedupe_key="invoice-sent inv_1 a@example.com")
    async with engine.begin() as connection:
        changed = text("UPDATE mails SET status = 'sent', created_at = now() - interval '1 year' WHERE id = :id")
        await connection.execute(changed, {"id": id_})
    assert await sweep_outboxes(engine) == 0
    async with engine.begin() as connection:
        assert (await connection.execute(text("DELETE FROM mails WHERE id = :id"), {"id": id_})).rowcount == 1
    stay = [str(number) for number, (status, age) in enumerate(cases) if status == "waiting" or age is YOUNG]
    assert await kept(engine, "SELECT dedupe_key FROM mails ORDER BY dedupe_key::int") == stay
    assert len(await kept(engine, "SELECT mail_id FROM mail_attachments")) == len(stay)
    assert await sweep_outboxes(engine) == 0


async def test_a_webhook_message_goes_with_its_deliveries_unless_somebody_waits_for_it(engine: AsyncEngine, redis: Redis) -> None:
    stores = Stores(engine=engine, redis=redis, pepper=b"p" * 32)
    for name, status, age, is_enabled in (
        ("told", "delivered", OLD, True),
        ("given up", "dead", OLD, True),
        ("waits", "waiting", OLD, True),
        ("waits for nobody", "waiting", OLD, False),
        ("young", "delivered", YOUNG, True),
    ):
        await _delivery(stores, await a_customer(stores), name, status=status, age=age, is_enabled=is_enabled)
    assert await sweep_outboxes(engine) == 3
    assert await kept(engine, "SELECT dedupe_key FROM webhook_messages ORDER BY id") == ["waits", "young"]
    assert await kept(engine, "SELECT status FROM webhook_deliveries ORDER BY id") == ["waiting", "delivered"]
    assert len(await kept(engine, "SELECT id FROM webhook_endpoints")) == 5


async def _delivery(
    stores: Stores, customer: CreatedCustomer, name: str, *, status: str, age: timedelta, is_enabled: bool
) -> None:
    made = await create_endpoint(stores, customer.customer.id, NewEndpoint(url="https://hooks.acme.example/"))
    async with stores.engine.begin() as connection:
        message = Message(type="usage.threshold_reached", data={}, dedupe_key=name)
        id_ = await publish(connection, customer.customer.id, message)
        values = {"status": status, "age": age, "id": id_, "endpoint": made.endpoint.id, "is_enabled": is_enabled}
        for statement in (
            "UPDATE webhook_messages SET created_at = now() - CAST(:age AS interval) WHERE id = :id",
            "UPDATE webhook_deliveries SET status = :status WHERE message_id = :id",
            "UPDATE webhook_endpoints SET is_enabled = :is_enabled WHERE id = :endpoint",
        ):
            await connection.execute(text(statement), {k: v for k, v in values.items() if f":{k}" in statement})
