"""Creating, listing and revoking keys, as running processes see it."""

import asyncio
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from control_plane.errors import ApiError
from control_plane.identity.api_key import is_well_formed
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.verbs import NewKey, Stores, create_key, list_keys, revoke_key
from tests.control_plane.eventually import eventually
from tests.control_plane.keys.conftest import Observing, a_customer


async def refused(work: object) -> tuple[str, str | None]:
    """The code and the field of a refusal."""
    with pytest.raises(ApiError) as refusal:
        await work  # type: ignore[misc]  # any coroutine
    return refusal.value.kind.code, refusal.value.param


async def test_another_key_works_beside_the_first(stores: Stores, observing: Observing) -> None:
    customer = await a_customer(stores)
    created = await create_key(stores, customer.customer.id, NewKey(name="line 2", per_minute=7))
    assert created.is_announced
    async with observing() as process:
        principal = await process.authenticator.authenticate(f"Bearer {created.key.text}")
        assert (principal.customer_id, principal.key_id) == (customer.customer.id, created.key.id)
        assert principal.key_per_minute == 7
        assert await process.code(f"Bearer {customer.key.text}") == "ok"


async def test_a_key_may_end_by_itself(stores: Stores) -> None:
    customer = await a_customer(stores, key=NewKey(expires_in_days=30))
    assert customer.key.expires_at is not None
    assert abs(customer.key.expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=5)


async def test_neither_key_nor_pepper_is_in_the_database(stores: Stores) -> None:
    customer = await a_customer(stores)
    async with stores.engine.connect() as connection:
        row = (
            await connection.execute(text("SELECT k::text FROM api_keys k WHERE id = :id"), {"id": customer.key.id})
        ).scalar_one()
    assert is_well_formed(customer.key.text)
    assert customer.key.text[13:] not in row
    assert customer.key.start == customer.key.text[:13] + "…"


async def test_a_list_shows_starts_and_states_and_never_a_key(stores: Stores) -> None:
    customer = await a_customer(stores)
    second = await create_key(stores, customer.customer.id, NewKey(name="second"))
    await revoke_key(stores, customer.key.id)
    first_shown, second_shown = await list_keys(stores.engine, customer.customer.id)
    assert (first_shown.start, second_shown.start) == (customer.key.start, second.key.start)
    assert first_shown.revoked_at is not None
    assert second_shown.revoked_at is None
    assert not any(len(word) > 20 and is_well_formed(word) for word in re.findall(r"\w+", repr(first_shown)))
    assert {key.id for key in (first_shown, second_shown)} <= {key.id for key in await list_keys(stores.engine)}


async def test_revoking_twice_keeps_the_first_time(stores: Stores) -> None:
    customer = await a_customer(stores)
    first, second = [await revoke_key(stores, customer.key.id) for _ in range(2)]
    assert first.key.revoked_at is not None
    assert first.key.revoked_at == second.key.revoked_at


async def test_wrong_values_are_refused_by_name_and_leave_nothing(stores: Stores) -> None:
    customer = await a_customer(stores)
    id_ = customer.customer.id
    assert await refused(create_key(stores, id_, NewKey(name="a\nb"))) == ("invalid_field", "key_name")
    assert await refused(create_key(stores, id_, NewKey(per_minute=0))) == ("invalid_field", "key_per_minute")
    assert await refused(create_key(stores, id_, NewKey(expires_in_days=4000))) == ("invalid_field", "expires_in_days")
    assert len(await list_keys(stores.engine, id_)) == 1


async def test_what_does_not_exist_is_named(stores: Stores) -> None:
    nobody = new_id()
    assert await refused(create_key(stores, nobody, NewKey())) == ("not_found", "customer")
    with pytest.raises(ApiError, match=public_id("key", nobody)):
        await revoke_key(stores, nobody)


async def test_without_redis_it_is_done_and_said(stores_without_redis: Stores, observing: Observing) -> None:
    customer = await a_customer(stores_without_redis)
    assert not customer.is_announced
    assert not (await revoke_key(stores_without_redis, customer.key.id)).is_announced
    async with observing() as process:
        assert await process.code(f"Bearer {customer.key.text}") == "revoked_key"


async def test_an_unannounced_revocation_is_noticed_when_the_time_of_belief_is_over(
    stores: Stores, stores_without_redis: Stores, observing: Observing
) -> None:
    customer = await a_customer(stores)
    header = f"Bearer {customer.key.text}"
    async with observing(cache_s=1.0) as process:
        assert await process.code(header) == "ok"
        await revoke_key(stores_without_redis, customer.key.id)

        async def is_noticed() -> bool:  # asked all the time: being in use must not prolong it
            return await process.code(header) == "revoked_key"

        await eventually(is_noticed)


async def test_revoking_reaches_every_process(stores: Stores, postgres_url: str, clean_redis_url: str) -> None:
    customer = await a_customer(stores)
    arguments = ("-m", "tests.control_plane.identity.door", postgres_url, clean_redis_url, customer.key.text)
    pipe = asyncio.subprocess.PIPE
    doors = [await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe) for _ in range(2)]
    try:
        async with asyncio.timeout(60):
            for door in doors:
                assert [await said(door) for _ in range(2)] == ["hearing", "ok"]
            await revoke_key(stores, customer.key.id)
            # Each believes for an hour what it has read, so only the announcement can have told it.
            assert [await said(door) for door in doors] == ["revoked_key", "revoked_key"]
    finally:
        for door in doors:
            door.kill()
            await door.wait()


async def said(door: asyncio.subprocess.Process) -> str:
    """The next line of a process."""
    assert door.stdout is not None
    return (await door.stdout.readline()).decode().strip()
