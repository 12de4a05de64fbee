"""What is used and what is left: told without spending, equal to what admissions say, honest while Redis is away."""

from datetime import UTC, datetime

import pytest

from billing.tiers import Tier
from control_plane.identity.authenticate import Authenticator
from control_plane.keys.verbs import NewKey, create_key
from control_plane.limits.limiter import Limiter
from control_plane.limits.look import look
from control_plane.metrics import create_metrics
from control_plane.usage.event import UsageStatus
from tests.conftest import free_port
from tests.control_plane.account.conftest import Office, asked, customer_of, event_of, recorded
from tests.control_plane.whole_app import running


@pytest.mark.parametrize("is_test", [False, True])
async def test_what_is_seen_is_what_an_admission_says_and_looking_spends_nothing(office: Office, is_test: bool) -> None:
    customer = await customer_of(office, tier=Tier.FREE)
    key = (await create_key(office.stores, customer.customer.id, NewKey(is_test=is_test))).key
    metrics, redis = create_metrics(), office.stores.redis
    authenticator = Authenticator(
        engine=office.stores.engine, redis=redis, pepper=office.stores.pepper, cache_s=5, metrics=metrics
    )
    principal = await authenticator.authenticate(f"Bearer {key.text}")
    limiter = Limiter(redis=redis, metrics=metrics, processes=1)
    before = await look(redis, principal)
    assert (before.minute.used, before.day.used, before.month.used, before.concurrency.used) == (0, 0, 0, 0)
    for number in range(1, 3):
        standing = (await limiter.admit(principal, f"inf_{number}", 60_000)).standing
        assert standing.day is not None
        assert standing.month is not None
        for _ in range(2):
            seen = await look(redis, principal)
            # A bucket drains while it is looked at: it can only have more room than a moment ago.
            assert standing.minute.remaining <= (seen.minute.remaining or 0) <= standing.minute.quota
            assert (seen.day.remaining, seen.month.remaining) == (standing.day.remaining, standing.month.remaining)
            assert seen.concurrency.used == number
    await authenticator.close()


async def test_a_customer_sees_now_days_and_models(office: Office) -> None:
    mine, other = await customer_of(office), await customer_of(office)
    events = [event_of(mine) for _ in range(3)] + [event_of(mine, status=UsageStatus.REFUSED), event_of(other)]
    await recorded(office, events)
    for _ in range(3):
        report = (await asked(office, mine.key.text, "GET", "/usage")).json()
    assert report["now"]["source"] == "limits"
    assert report["now"]["day"] == {**report["now"]["day"], "limit": 10_000, "used": 0, "remaining": 10_000}
    (day,) = report["by_day"]
    assert (day["requests"], day["billable_requests"], day["refused"]) == (4, 3, 1)
    assert report["by_model"] == [{"model": events[0].policy, "requests": 4, "billable_requests": 3}]


async def test_unlimited_is_null(office: Office) -> None:
    mine = await customer_of(office, tier=Tier.ENTERPRISE)
    month = (await asked(office, mine.key.text, "GET", "/usage")).json()["now"]["month"]
    assert (month["limit"], month["remaining"], month["used"]) == (None, None, 0)


async def test_without_redis_it_is_told_from_the_rows_and_said_so(office: Office) -> None:
    mine = await customer_of(office)
    await recorded(office, [event_of(mine) for _ in range(3)])
    away = office.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port().number}/0"})
    async with running(away) as client:
        response = await client.get("/v1/usage", headers={"Authorization": f"Bearer {mine.key.text}"})
    now = response.json()["now"]
    assert now["source"] == "rows"
    assert (now["day"]["used"], now["day"]["remaining"]) == (3, 9_997)
    assert (now["month"]["used"], now["minute"]["used"], now["minute"]["limit"]) == (3, None, 100)
    assert datetime.fromisoformat(now["day"]["resets_at"]) > datetime.now(UTC)


@pytest.mark.parametrize("query", ["days=0", "days=93", "days=x", "weeks=1"])
async def test_a_wrong_question_is_refused(office: Office, query: str) -> None:
    mine = await customer_of(office)
    assert (await asked(office, mine.key.text, "GET", f"/usage?{query}")).status_code == 422
