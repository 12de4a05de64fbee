"""Rotation with overlap, and changing what a key may do, as running processes see it."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.audit.reading import Filter, read_lines
from control_plane.audit.record import By
from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import NewKey, Stores, change_key, create_key, list_keys, revoke_key, rotate_key
from tests.control_plane.eventually import eventually
from tests.control_plane.keys.conftest import Observing, a_customer
from tests.control_plane.keys.test_verbs import refused

HOUR = timedelta(hours=1)


async def test_the_new_key_works_at_once_and_the_old_one_until_the_overlap_ends_in_every_process(
    stores: Stores, observing: Observing
) -> None:
    customer = await a_customer(stores)
    old = f"Bearer {customer.key.text}"
    async with observing() as one, observing() as other:
        assert [await process.code(old) for process in (one, other)] == ["ok", "ok"]  # both have it in their caches
        began_s = time.time()
        rotated = await rotate_key(stores, customer.key.id, overlap=timedelta(seconds=3))
        for process in (one, other):
            process.authenticator.forget([customer.key.digest])  # as their listeners do
            assert await process.code(f"Bearer {rotated.key.text}") == "ok"
        if time.time() - began_s < 2.5:
            assert [await process.code(old) for process in (one, other)] == ["ok", "ok"]
        assert rotated.old.expires_at is not None
        await asyncio.sleep(max(0.0, rotated.old.expires_at.timestamp() - time.time()) + 0.01)
        assert [await process.code(old) for process in (one, other)] == ["expired_key", "expired_key"]
        assert await one.code(f"Bearer {rotated.key.text}") == "ok"


async def test_the_new_key_is_like_the_old_one(stores: Stores) -> None:
    customer = await a_customer(stores)
    new = NewKey(
        name="line 2", per_minute=7, expires_in_days=90, robots=["ur5e"], policies=["tabletop"], allowed_ips=["203.0.113.7"]
    )
    created = await create_key(stores, customer.customer.id, new)
    rotated = await rotate_key(stores, created.key.id, overlap=HOUR, customer_id=customer.customer.id)
    shown = (await list_keys(stores.engine, customer.customer.id))[-1]
    assert (shown.id, shown.rotated_from) == (rotated.key.id, created.key.id)
    assert (shown.name, shown.per_minute, shown.is_test) == ("line 2", 7, False)
    assert (shown.robots, shown.policies, shown.allowed_ips) == (("ur5e",), ("tabletop",), ("203.0.113.7/32",))
    assert shown.expires_at is not None
    assert abs(shown.expires_at - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)
    assert rotated.key.text != created.key.text


async def test_a_test_key_is_rotated_into_a_test_key(stores: Stores) -> None:
    customer = await a_customer(stores, key=NewKey(is_test=True))
    assert customer.key.text.startswith("vla_test_")
    assert (await rotate_key(stores, customer.key.id, overlap=HOUR)).key.text.startswith("vla_test_")


async def test_an_overlap_never_prolongs_a_key(stores: Stores) -> None:
    customer = await a_customer(stores, key=NewKey(expires_in_days=1))
    rotated = await rotate_key(stores, customer.key.id, overlap=timedelta(days=7))
    assert rotated.old.expires_at == customer.key.expires_at


async def test_a_key_is_replaced_once(stores: Stores) -> None:
    customer = await a_customer(stores)
    outcomes = await asyncio.gather(
        *(rotate_key(stores, customer.key.id, overlap=HOUR) for _ in range(4)), return_exceptions=True
    )
    assert len([outcome for outcome in outcomes if not isinstance(outcome, BaseException)]) == 1
    assert {outcome.param for outcome in outcomes if isinstance(outcome, ApiError)} == {"key"}
    assert len(await list_keys(stores.engine, customer.customer.id)) == 2


async def test_what_cannot_be_rotated_is_said(stores: Stores) -> None:
    customer, other = await a_customer(stores), await a_customer(stores)
    key = customer.key.id
    assert await refused(rotate_key(stores, key, overlap=timedelta(days=31))) == ("invalid_field", "overlap")
    assert await refused(rotate_key(stores, key, overlap=-HOUR)) == ("invalid_field", "overlap")
    with pytest.raises(ApiError, match=public_id("key", key)):
        await rotate_key(stores, key, overlap=HOUR, customer_id=other.customer.id)
    await revoke_key(stores, key)
    assert await refused(rotate_key(stores, key, overlap=HOUR)) == ("invalid_field", "key")
    assert len(await list_keys(stores.engine, customer.customer.id)) == 1


async def test_another_customers_key_is_not_there(stores: Stores) -> None:
    customer, other = await a_customer(stores), await a_customer(stores)
    for work in (
        revoke_key(stores, customer.key.id, customer_id=other.customer.id),
        change_key(stores, customer.key.id, {"name": "mine"}, customer_id=other.customer.id),
    ):
        assert await refused(work) == ("not_found", "key")
    (shown,) = await list_keys(stores.engine, customer.customer.id)
    assert (shown.revoked_at, shown.name) == (None, "default")


async def test_a_change_is_heard_and_keeps_what_it_does_not_name(stores: Stores, observing: Observing) -> None:
    customer = await a_customer(stores, key=NewKey(per_minute=9))
    header = f"Bearer {customer.key.text}"
    async with observing() as process:
        assert (await process.authenticator.authenticate(header)).scope.robots is None
        changed = await change_key(stores, customer.key.id, {"robots": ["ur5e"]})
        assert changed.is_announced
        process.authenticator.forget([customer.key.digest])
        principal = await process.authenticator.authenticate(header)
        assert (principal.scope.robots, principal.key_per_minute) == (frozenset({"ur5e"}), 9)
        assert (await change_key(stores, customer.key.id, {"robots": None})).key.robots is None


async def test_every_change_is_in_the_audit_log_and_no_key_is(stores: Stores) -> None:
    customer = await a_customer(stores)
    key = customer.key.id
    named = replace(stores, by=By(actor="operator opr_1", request_id="inf_1"))
    await change_key(named, key, {"robots": ["ur5e"]})
    rotated = await rotate_key(named, key, overlap=HOUR)
    await revoke_key(named, key)
    lines = await read_lines(stores.engine, Filter(actor="operator opr_1"), limit=10)
    mine = [line for line in lines if line.customer_id == customer.customer.id]
    assert [line.action for line in reversed(mine)] == ["key.change", "key.rotate", "key.create", "key.revoke"]
    assert (mine[-1].before, mine[-1].after["robots"], mine[-1].request_id) == ({"robots": None}, ["ur5e"], "inf_1")
    assert mine[-2].after["successor"] == public_id("key", rotated.key.id)
    assert rotated.key.text[13:] not in repr(mine)


async def test_wrong_changes_are_refused_by_name(stores: Stores) -> None:
    customer = await a_customer(stores)
    wrong: dict[str, tuple[object, str]] = {
        "robots": (["no_such_robot"], "robots"),
        "policies": ([], "policies"),
        "allowed_ips": (["203.0.113.7/24"], "allowed_ips"),
        "per_minute": (0, "key_per_minute"),
        "name": ("", "key_name"),
        "digest": (b"x" * 32, "digest"),
    }
    for field, (value, named) in wrong.items():
        assert await refused(change_key(stores, customer.key.id, {field: value})) == ("invalid_field", named)
    assert await refused(change_key(stores, customer.key.id, {})) == ("invalid_field", "key")


async def test_from_where_a_key_may_be_used_is_asked_of_a_cached_key_too(stores: Stores, observing: Observing) -> None:
    customer = await a_customer(stores)
    header = f"Bearer {customer.key.text}"
    async with observing() as process:
        assert await process.code(header) == "ok"
        await change_key(stores, customer.key.id, {"allowed_ips": ["203.0.113.0/24"]})

        async def is_refused() -> bool:
            process.authenticator.forget([customer.key.digest])
            return await process.code(header) == "address_not_allowed"

        await eventually(is_refused)
        assert await process.code(header) == "address_not_allowed"  # this call comes from nowhere
