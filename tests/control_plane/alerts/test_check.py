"""Quota alerts: at 80, 95 and 100 %, once per threshold and period, by e-mail and webhook, however many workers look."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text

from billing.tiers import Tier
from control_plane.alerts.check import Alerts
from control_plane.customers.verbs import CreatedCustomer, set_active, set_limits, set_spend_cap
from control_plane.db import create_engine
from control_plane.logs import create_log
from control_plane.mail.letters import letterhead_of
from tests.control_plane.account.conftest import customer_of
from tests.control_plane.alerts.conftest import Office

LETTERHEAD = letterhead_of(public_url="https://api.vla.example", docs_url=None, operator_email=None)


def alerts(office: Office) -> Alerts:
    """A worker's looking part."""
    return Alerts(engine=office.stores.engine, letterhead=LETTERHEAD, log=create_log("error"))


async def used(office: Office, customer_id: UUID, requests: int, *, failed: int = 0, billable: int = 0) -> None:
    """What the recorder has counted today and this month."""
    counts = "requests, billable_requests, refused, invalid, failed, compute_us"
    values = {"id": customer_id, "requests": requests, "failed": failed, "billable": billable}
    async with office.stores.engine.begin() as connection:
        for table, period, start in (("usage_days", "day", "day"), ("usage_months", "month", "month")):
            await connection.execute(
                text(f"""
                    INSERT INTO {table} (customer_id, {period}, {counts})
                    VALUES (:id, date_trunc('{start}', now() AT TIME ZONE 'UTC')::date, :requests, :billable, 0, 0, :failed, 0)
                    ON CONFLICT (customer_id, {period}) DO UPDATE SET requests = excluded.requests, failed = excluded.failed,
                        billable_requests = excluded.billable_requests
                """),  # noqa: S608 -- words of this test
                values,
            )


async def mails(office: Office) -> Sequence[Any]:
    """The outbox."""
    async with office.stores.engine.connect() as connection:
        return (await connection.execute(text("SELECT * FROM mails ORDER BY id"))).all()


async def messages(office: Office) -> list[Any]:
    """What webhooks say."""
    async with office.stores.engine.connect() as connection:
        rows = (await connection.execute(text("SELECT payload FROM webhook_messages ORDER BY id"))).all()
    return [msgspec.json.decode(row.payload)["data"] for row in rows]


async def limited(office: Office, *, per_day: int = 1000, per_month: int = 10_000) -> CreatedCustomer:
    """A customer with round limits."""
    customer = await customer_of(office)
    await set_limits(office.stores, customer.customer.id, {"per_day": per_day, "per_month": per_month})
    return customer


async def test_each_threshold_is_told_once_by_mail_and_webhook(office: Office) -> None:
    mine, look = await limited(office), alerts(office)
    for requests in (799, 800, 800, 949, 950, 999, 1000, 1500):
        await used(office, mine.customer.id, requests)
        await look.step()
        await look.step()
    assert [(mail.recipient, mail.subject) for mail in await mails(office)] == [
        (mine.customer.email, f"{threshold} % of your daily quota is used") for threshold in (80, 95, 100)
    ]
    told = await messages(office)
    assert [(data["limit"], data["threshold_pct"], data["used"], data["quota"]) for data in told] == [
        ("day", 80, 800, 1000),
        ("day", 95, 950, 1000),
        ("day", 100, 1000, 1000),
    ]
    assert datetime.fromisoformat(told[0]["resets_at"]) > datetime.now(UTC)


async def test_of_several_thresholds_crossed_at_once_the_highest_is_told_once(office: Office) -> None:
    mine, look = await limited(office), alerts(office)
    await used(office, mine.customer.id, 970)
    await look.step()
    await look.step()
    assert [mail.subject for mail in await mails(office)] == ["95 % of your daily quota is used"]


async def test_two_workers_at_one_moment_tell_once(office: Office) -> None:
    customers = [await limited(office) for _ in range(5)]
    for customer in customers:
        await used(office, customer.customer.id, 1000)
    other = create_engine(str(office.settings.database_url))
    workers = [alerts(office), replace(alerts(office), engine=other)]
    await asyncio.gather(*(worker.step() for worker in workers for _ in range(3)))
    await other.dispose()
    assert len(await mails(office)) == len(await messages(office)) == 5


async def test_day_and_month_are_told_apart_and_the_next_period_begins_anew(office: Office) -> None:
    mine, look = await limited(office, per_day=100_000, per_month=1000), alerts(office)
    await used(office, mine.customer.id, 800)
    await look.step()
    async with office.stores.engine.begin() as connection:
        await connection.execute(text("UPDATE usage_alerts SET period = period - interval '1 month'"))
        await connection.execute(text("UPDATE mails SET dedupe_key = 'last month'"))
        await connection.execute(text("UPDATE webhook_messages SET dedupe_key = 'last month'"))
    await look.step()
    assert [mail.subject for mail in await mails(office)] == ["80 % of your monthly quota is used"] * 2


async def test_what_failed_by_our_fault_and_who_is_switched_off_is_not_told(office: Office) -> None:
    mine, off = await limited(office), await limited(office)
    await used(office, mine.customer.id, 900, failed=101)
    await used(office, off.customer.id, 1000)
    await set_active(office.stores, off.customer.id, is_active=False)
    await alerts(office).step()
    assert await mails(office) == []


async def test_unlimited_months_have_no_threshold_and_spend_caps_do(office: Office) -> None:
    mine = await customer_of(office, tier=Tier.ENTERPRISE)
    await set_limits(office.stores, mine.customer.id, {"per_day": 10_000_000})
    await used(office, mine.customer.id, 5_000_000, billable=9_400)
    await alerts(office).step()
    assert await mails(office) == []
    await set_spend_cap(office.stores, mine.customer.id, 250_000 + 10_000)  # leaves room for 10,000 requests at a cent
    await alerts(office).step()
    assert [mail.subject for mail in await mails(office)] == ["80 % of your spend cap is used"]
    assert (await messages(office))[0] == {**(await messages(office))[0], "limit": "spend", "used": 9_400, "quota": 10_000}


async def test_an_alert_that_cannot_be_told_is_told_at_the_next_look(office: Office) -> None:
    mine, look = await limited(office), alerts(office)
    await used(office, mine.customer.id, 800)
    async with office.stores.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE mails RENAME TO mails_away"))
    with pytest.raises(Exception, match="mails"):
        await look.step()
    async with office.stores.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE mails_away RENAME TO mails"))
    await look.step()
    assert len(await mails(office)) == 1


async def test_a_stranger_in_the_company_name_stays_text(office: Office) -> None:
    mine, look = await limited(office), alerts(office)
    async with office.stores.engine.begin() as connection:
        await connection.execute(text("UPDATE customer_accounts SET company_name = '<script>x</script>'"))
    await used(office, mine.customer.id, 800)
    await look.step()
    (mail,) = await mails(office)
    assert "<script>" not in mail.html
    assert "&lt;script&gt;" in mail.html
