"""Creating, listing and changing customers, as running processes see it."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

import pytest

from billing.tiers import Tier
from control_plane.customers.verbs import (
    NewCustomer,
    create_customer,
    list_customers,
    set_active,
    set_limits,
    set_tier,
)
from control_plane.errors import ApiError
from control_plane.identity.principal import RateLimits
from control_plane.identity.public_id import new_id
from control_plane.identity.revocation import RevocationListener
from control_plane.keys.verbs import NewKey, Stores, create_key, list_keys
from tests.control_plane.eventually import eventually
from tests.control_plane.identity.conftest import Observed
from tests.control_plane.keys.conftest import Observing, a_customer


def new_customer(**values: object) -> NewCustomer:
    """Valid, unless said otherwise."""
    usual: dict[str, object] = {"company_name": "Acme Robotics", "email": f"{secrets.token_hex(8)}@example.com"}
    return NewCustomer(**(usual | values))  # type: ignore[arg-type]  # a test may hand in anything


async def test_a_customer_comes_with_a_key_that_works(stores: Stores, observing: Observing) -> None:
    created = await create_customer(stores, new_customer(tier=Tier.FREE, is_zero_retention=True), NewKey())
    async with observing() as process:
        principal = await process.authenticator.authenticate(f"Bearer {created.key.text}")
    assert principal.customer_id == created.customer.id
    assert (principal.tier, principal.is_zero_retention) == (Tier.FREE, True)
    assert principal.limits == created.customer.limits


async def test_an_address_has_one_customer_however_it_is_written(stores: Stores) -> None:
    first = await create_customer(stores, new_customer(), NewKey())
    with pytest.raises(ApiError, match="email belongs to a customer already") as refusal:
        await create_customer(stores, new_customer(email=first.customer.email.upper()), NewKey())
    assert refusal.value.param == "email"


@pytest.mark.parametrize(
    ("values", "key", "field"),
    [
        ({"company_name": "\x07"}, NewKey(), "company_name"),
        ({"email": "nowhere"}, NewKey(), "email"),
        ({"overrides": {"per_day": 0}}, NewKey(), "per_day"),
        ({}, NewKey(name=""), "key_name"),
        ({}, NewKey(expires_in_days=0), "expires_in_days"),
    ],
)
async def test_wrong_values_are_refused_by_name_and_leave_no_customer(
    stores: Stores, values: dict[str, object], key: NewKey, field: str
) -> None:
    before = len(await list_customers(stores.engine))
    with pytest.raises(ApiError) as refusal:
        await create_customer(stores, new_customer(**values), key)
    assert refusal.value.param == field
    assert len(await list_customers(stores.engine)) == before


async def test_the_list_shows_the_limits_in_force(stores: Stores) -> None:
    created = await create_customer(stores, new_customer(tier=Tier.ENTERPRISE, overrides={"per_minute": 5}), NewKey())
    shown = {customer.id: customer for customer in await list_customers(stores.engine)}[created.customer.id]
    assert shown == created.customer
    assert (shown.limits.per_minute, shown.limits.per_day, shown.limits.per_month) == (5, 100_000, None)


async def test_limits_that_are_not_named_stay_and_none_goes_back_to_the_tiers(stores: Stores) -> None:
    customer = (await a_customer(stores, tier=Tier.FREE)).customer
    await set_limits(stores, customer.id, {"per_minute": 20, "per_day": 30})
    changed = await set_limits(stores, customer.id, {"per_minute": None, "concurrency": 2})
    assert changed.customer.limits == RateLimits(per_minute=10, per_day=30, per_month=10_000, concurrency=2)


async def test_changing_no_limit_is_refused(stores: Stores) -> None:
    customer = (await a_customer(stores)).customer
    with pytest.raises(ApiError) as refusal:
        await set_limits(stores, customer.id, {})
    assert refusal.value.kind.code == "missing_field"


@pytest.mark.parametrize(
    "change",
    [
        lambda stores, id_: set_tier(stores, id_, Tier.FREE),
        lambda stores, id_: set_limits(stores, id_, {"per_day": 1}),
        lambda stores, id_: set_active(stores, id_, is_active=False),
    ],
)
async def test_nobody_cannot_be_changed(stores: Stores, change: Callable[..., Awaitable[object]]) -> None:
    with pytest.raises(ApiError) as refusal:
        await change(stores, new_id())
    assert (refusal.value.kind.code, refusal.value.param) == ("not_found", "customer")


async def test_every_change_reaches_running_processes_for_every_key(stores: Stores, observing: Observing) -> None:
    customer = await a_customer(stores, tier=Tier.PRO)
    second = await create_key(stores, customer.customer.id, NewKey(name="second"))
    headers = [f"Bearer {key.text}" for key in (customer.key, second.key)]
    id_ = customer.customer.id
    async with observing(cache_s=3600) as process:
        listener = RevocationListener(redis=process.redis, authenticator=process.authenticator)
        listener.start()
        await listener.wait_until_hearing()
        assert await answers(process, headers) == ["pro 100", "pro 100"]
        await set_tier(stores, id_, Tier.ENTERPRISE)
        await eventually(lambda: answer_is(process, headers, "enterprise 1000"))
        await set_limits(stores, id_, {"per_minute": 3})
        await eventually(lambda: answer_is(process, headers, "enterprise 3"))
        await set_active(stores, id_, is_active=False)
        await eventually(lambda: answer_is(process, headers, "inactive_customer"))
        await set_active(stores, id_, is_active=True)
        await eventually(lambda: answer_is(process, headers, "enterprise 3"))
        await listener.stop()
    assert len(await list_keys(stores.engine, id_)) == 2


async def answers(process: Observed, headers: list[str]) -> list[str]:
    """What each key is worth in that process."""
    return list(await asyncio.gather(*(answer(process, header) for header in headers)))


async def answer(process: Observed, header: str) -> str:
    """Tier and minute, or the code of a refusal."""
    try:
        principal = await process.authenticator.authenticate(header)
    except ApiError as refusal:
        return refusal.kind.code
    return f"{principal.tier} {principal.limits.per_minute}"


async def answer_is(process: Observed, headers: list[str], expected: str) -> bool:
    """For `eventually`."""
    return await answers(process, headers) == [expected] * len(headers)


async def test_without_redis_a_change_is_done_and_said(stores: Stores, stores_without_redis: Stores) -> None:
    customer = (await a_customer(stores)).customer
    changed = await set_tier(stores_without_redis, customer.id, Tier.FREE)
    assert (changed.customer.tier, changed.is_announced) == (Tier.FREE, False)
