"""A change of a customer's layer reaches a process that would otherwise believe what it has for an hour."""

from dataclasses import replace

from control_plane.audit.reading import Filter, read_lines
from control_plane.audit.record import By
from control_plane.guarding.fields import LimitFields, Settings
from control_plane.guarding.verbs import Content, Wish, change_settings, read_settings
from control_plane.identity.revocation import RevocationListener
from control_plane.keys.verbs import Stores
from safety.profile import Preset, load_profiles
from tests.control_plane.eventually import eventually
from tests.control_plane.identity.conftest import Observing, observing
from tests.control_plane.keys.conftest import a_customer, stores, stores_without_redis

__all__ = ["observing", "stores", "stores_without_redis"]

PROFILES = load_profiles()
SLOW = Content(settings=Settings(robots={"franka_panda": LimitFields(linear_speed_m_per_s=0.1)}))


def wish(content: Content) -> Wish:
    return Wish(by="operator test", edit=lambda _: content)


async def test_an_announced_change_is_heard_at_once_and_so_is_its_end(stores: Stores, observing: Observing) -> None:
    customer = await a_customer(stores)
    header = f"Bearer {customer.key.text}"
    async with observing(cache_s=3600) as process:
        listener = RevocationListener(redis=process.redis, authenticator=process.authenticator)
        listener.start()
        await listener.wait_until_hearing()
        assert (await process.authenticator.authenticate(header)).safety is None

        async def version() -> int | None:
            found = (await process.authenticator.authenticate(header)).safety
            return None if found is None else found.version

        async def is_first() -> bool:
            return await version() == 1

        async def is_none() -> bool:
            return await version() is None

        changed = await change_settings(stores, customer.customer.id, wish(SLOW), profiles=PROFILES)
        assert changed.is_announced
        await eventually(is_first)
        await change_settings(stores, customer.customer.id, wish(Content()), profiles=PROFILES)
        await eventually(is_none)
        await listener.stop()


async def test_every_change_is_a_line_of_the_audit_log(stores: Stores) -> None:
    customer = (await a_customer(stores)).customer
    named = replace(stores, by=By(actor="operator opr_1", request_id="inf_1"))
    for content in (SLOW, SLOW, Content()):
        await change_settings(named, customer.id, wish(content), profiles=PROFILES)
    lines = await read_lines(stores.engine, Filter(customer_id=customer.id, actor="operator opr_1"), limit=10)
    assert [(line.action, line.after["version"], line.request_id) for line in lines] == [
        ("safety.clear", 2, "inf_1"),
        ("safety.set", 1, "inf_1"),
    ]
    assert lines[1].after["settings"]["robots"]["franka_panda"] == {"linear_speed_m_per_s": 0.1}
    assert lines[0].before == lines[1].after


async def test_without_redis_a_change_is_stored_and_said_to_be_unannounced(stores_without_redis: Stores) -> None:
    customer = await a_customer(stores_without_redis)
    changed = await change_settings(stores_without_redis, customer.customer.id, wish(SLOW), profiles=PROFILES)
    assert not changed.is_announced
    stored = await read_settings(stores_without_redis.engine, customer.customer.id)
    assert (stored.content, stored.version, stored.changed_by) == (SLOW, 1, "operator test")


async def test_a_preset_alone_is_something_of_the_customers_own(stores: Stores, observing: Observing) -> None:
    customer = await a_customer(stores)
    await change_settings(stores, customer.customer.id, wish(Content(preset=Preset.MANUFACTURER)), profiles=PROFILES)
    async with observing() as process:
        found = (await process.authenticator.authenticate(f"Bearer {customer.key.text}")).safety
    assert found is not None
    assert (found.preset, found.document) == ("manufacturer", "{}")
