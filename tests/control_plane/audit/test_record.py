"""The audit log: one line per change, in the change's own transaction, that nobody can alter and that holds no secret."""

import json
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from billing.tiers import Tier
from control_plane.audit.reading import Filter, Line, read_lines
from control_plane.audit.record import LEFT_OUT, By, Change, record
from control_plane.customers.verbs import set_active, set_limits, set_tier
from control_plane.errors import ApiError
from control_plane.identity.api_key import mint_key
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.verbs import NewKey, Stores, create_key, revoke_key
from tests.control_plane.keys.conftest import a_customer, stores, stores_without_redis

__all__ = ["stores", "stores_without_redis"]


async def lines_of(stores: Stores, customer_id: UUID) -> list[Line]:
    """Oldest first."""
    return list(reversed(await read_lines(stores.engine, Filter(customer_id=customer_id), limit=100)))


async def test_every_change_to_a_customer_and_its_keys_is_told_with_what_was_before(stores: Stores) -> None:
    customer = await a_customer(stores, tier=Tier.PRO)
    id_ = customer.customer.id
    await set_tier(stores, id_, Tier.ENTERPRISE)
    await set_limits(stores, id_, {"per_minute": 3})
    await set_active(stores, id_, is_active=False)
    second = await create_key(stores, id_, NewKey(name="second"))
    await revoke_key(stores, second.key.id)
    lines = await lines_of(stores, id_)
    assert [line.action for line in lines] == [
        "customer.create",
        "key.create",
        "customer.change",
        "customer.change",
        "customer.change",
        "key.create",
        "key.revoke",
    ]
    assert (lines[2].before, lines[2].after) == ({"tier": "pro"}, {"tier": "enterprise"})
    assert (lines[3].before, lines[3].after) == ({"per_minute": None}, {"per_minute": 3})
    assert lines[6].target == public_id("key", second.key.id)


async def test_a_change_that_fails_leaves_no_line(stores: Stores) -> None:
    with pytest.raises(ApiError):
        await set_tier(stores, unknown := new_id(), Tier.PRO)
    assert await lines_of(stores, unknown) == []


async def test_a_line_is_there_exactly_when_its_transaction_is(stores: Stores) -> None:
    change = Change(action="test", target=f"test_{new_id().hex}")
    async with stores.engine.connect() as connection:
        await record(connection, By(actor="tester"), change)
        await connection.rollback()
    assert await read_lines(stores.engine, Filter(target=change.target), limit=10) == []
    async with stores.engine.begin() as connection:
        await record(connection, By(actor="tester", request_id="inf_1"), change)
    (line,) = await read_lines(stores.engine, Filter(target=change.target), limit=10)
    assert (line.actor, line.request_id, line.before, line.after) == ("tester", "inf_1", None, None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "INSERT INTO audit_log (id, actor, action, target) SELECT id, 'x', 'x', 'x' FROM audit_log LIMIT 1 "
        "ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
    ],
)
async def test_the_database_itself_refuses_to_alter_it(stores: Stores, statement: str) -> None:
    async with stores.engine.begin() as connection:
        await record(connection, By(actor="tester"), Change(action="test", target="append only"))
    async with stores.engine.connect() as connection:
        with pytest.raises(ProgrammingError, match="append-only"):
            await connection.execute(text(statement))


async def test_no_secret_gets_in_whoever_passes_it(stores: Stores) -> None:
    key, target = mint_key(), f"test_{new_id().hex}"
    after = {
        "name": f"my {key}",
        "secret": "hush",
        "nested": [{"api_key": key, "whsec": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}],
    }
    async with stores.engine.begin() as connection:
        await record(connection, By(actor=f"key {key}"), Change(action="test", target=target, after=after))
    (line,) = await read_lines(stores.engine, Filter(target=target), limit=10)
    told = json.dumps([line.actor, line.after])
    assert [secret for secret in (key[14:], "hush", "9r8GKYqrTwjUPD8") if secret in told] == []
    assert line.after["secret"] == line.after["nested"][0]["api_key"] == LEFT_OUT
    assert key[:13] in line.after["name"]


async def test_no_key_that_is_created_is_in_the_log(stores: Stores) -> None:
    customer = await a_customer(stores)
    lines = await lines_of(stores, customer.customer.id)
    assert customer.key.text[14:] not in json.dumps([[line.before, line.after, line.target] for line in lines])


async def test_pages_go_from_new_to_old_without_gap_or_overlap(stores: Stores) -> None:
    target = f"test_{new_id().hex}"
    for _ in range(5):
        async with stores.engine.begin() as connection:
            await record(connection, By(), Change(action="test", target=target))
    whole = await read_lines(stores.engine, Filter(target=target), limit=10)
    first = await read_lines(stores.engine, Filter(target=target), limit=3)
    rest = await read_lines(stores.engine, Filter(target=target, before_id=first[-1].id), limit=3)
    assert [*first, *rest] == list(whole)
    assert [line.id for line in whole] == sorted((line.id for line in whole), reverse=True)
