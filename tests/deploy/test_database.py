"""The demo customer: made once, its key kept while it works and replaced when it does not."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from billing.tiers import Tier
from control_plane.customers.verbs import list_customers, set_active
from control_plane.db import create_engine
from control_plane.identity.api_key import digest_of
from control_plane.identity.lookup import look_up
from control_plane.identity.public_id import parse_public_id
from control_plane.keys.verbs import Stores, list_keys, revoke_key
from control_plane.redis import create_redis
from deploy.embedded.database import demo_customer
from deploy.embedded.demo import Demo


@pytest.fixture
async def stores(database_url: str, clean_redis_url: str) -> AsyncIterator[Stores]:
    """Empty stores."""
    engine, redis = create_engine(database_url), create_redis(clean_redis_url, timeout_s=2.0)
    yield Stores(engine=engine, redis=redis, pepper=b"p" * 32)
    await redis.aclose()
    await engine.dispose()


async def refusal(stores: Stores, demo: Demo) -> str | None:
    record = await look_up(stores.engine, digest_of(demo.key, pepper=stores.pepper))
    return "unknown_key" if record is None else record.refusal(now_s=0.0)


def customer_of(demo: Demo) -> UUID:
    id_ = parse_public_id("cus", demo.customer)
    assert id_ is not None
    return id_


async def test_the_first_start_makes_a_pro_customer_whose_key_works(stores: Stores) -> None:
    demo = await demo_customer(stores, None)
    (customer,) = await list_customers(stores.engine)
    assert (customer.id, customer.tier) == (customer_of(demo), Tier.PRO)
    assert await refusal(stores, demo) is None


async def test_a_later_start_keeps_a_key_that_works(stores: Stores) -> None:
    demo = await demo_customer(stores, None)
    assert await demo_customer(stores, demo) == demo
    assert len(await list_keys(stores.engine)) == 1


async def test_a_revoked_or_lost_key_is_replaced_and_the_customer_kept(stores: Stores) -> None:
    first = await demo_customer(stores, None)
    await revoke_key(stores, (await list_keys(stores.engine))[0].id)
    second = await demo_customer(stores, first)
    third = await demo_customer(stores, None)
    assert len({first.key, second.key, third.key}) == 3
    assert {first.customer, second.customer, third.customer} == {first.customer}
    assert await refusal(stores, second) == "revoked_key"
    assert await refusal(stores, third) is None


async def test_a_deactivated_demo_customer_comes_back_with_a_new_key_only(stores: Stores) -> None:
    first = await demo_customer(stores, None)
    await set_active(stores, customer_of(first), is_active=False)
    second = await demo_customer(stores, first)
    assert await refusal(stores, first) == "revoked_key"
    assert await refusal(stores, second) is None


async def test_a_key_made_with_another_pepper_is_replaced(stores: Stores) -> None:
    first = await demo_customer(stores, None)
    other = replace(stores, pepper=b"q" * 32)
    assert await refusal(other, await demo_customer(other, first)) is None
