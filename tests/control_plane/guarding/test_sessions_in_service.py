"""Sessions through whole API processes: two of them, races for one `seq`, a Redis that dies, another customer's session id."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from control_plane.guarding.sessions import SessionKey
from control_plane.keys.verbs import IssuedKey
from control_plane.settings import Settings
from control_plane.usage.event import UsageStatus
from tests.control_plane.own_servers import own_valkey
from tests.control_plane.whole_app import (
    MINIMAL,
    answers,
    events_in,
    new_key,
    post,
    process,
    running,
    settings_of,
    stores,
    variables,
)

STATE = [0.0, -0.3, 0.0, -2.0, 0.0, 2.0, 0.8, 0.04]
NEED_SESSION = "no_session"


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, triton_url: str, tmp_path: Path) -> dict[str, str]:
    return variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path / "spool")


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return settings_of(environment)


async def step(client: httpx.AsyncClient, key: IssuedKey, seq: int, **more: Any) -> httpx.Response:
    return await post(client, key, {**MINIMAL, "session_id": "ep-17", "seq": seq, "state": STATE, **more})


def unseen(response: httpx.Response) -> set[str]:
    """The rules that had no session to look at."""
    assert response.status_code == 200, response.text
    return {rule["id"] for rule in response.json()["safety"]["rules"] if rule.get("reason") == NEED_SESSION}


async def test_the_second_request_of_a_session_is_judged_with_the_first(settings: Settings) -> None:
    key = await new_key(settings)
    async with running(settings) as client:
        first, second = await step(client, key, 1), await step(client, key, 2, executed_index=3)
        elsewhere = await step(client, key, 1, session_id="ep-18")
    assert "E5.sequence" in unseen(first)
    assert "E5.sequence" not in unseen(second)
    assert "E5.sequence" in unseen(elsewhere)


async def test_a_replayed_seq_is_a_409_that_counts_and_is_not_billed(settings: Settings) -> None:
    key = await new_key(settings)
    async with running(settings) as client:
        await step(client, key, 5)
        replay, older, newer = await step(client, key, 5), await step(client, key, 4), await step(client, key, 6)
    for refused in (replay, older):
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (409, "sequence_replayed", "seq")
        assert "ratelimit" in refused.headers
    assert newer.json()["usage"]["requests_remaining_day"] == 9996
    async with Redis.from_url(str(settings.redis_url)) as redis:
        events = await events_in(redis)
    found = Counter((event.status, event.error_code, event.is_billable) for event in events)
    assert found == {(UsageStatus.SUCCESS, None, True): 2, (UsageStatus.INVALID, "sequence_replayed", False): 2}


async def test_of_two_processes_only_one_accepts_a_seq_and_both_know_the_chunk(
    environment: dict[str, str], tmp_path: Path
) -> None:
    key = await new_key(settings_of(environment))
    folder = Path(environment["VLA_SPOOL_DIR"]).parent
    with (
        process(environment, socket=folder / "a", log=tmp_path / "a.log") as first,
        process(environment, socket=folder / "b", log=tmp_path / "b.log") as second,
    ):
        await asyncio.gather(answers(first), answers(second))
        try:
            for seq in range(1, 6):
                pair = await asyncio.gather(step(first, key, seq), step(second, key, seq))
                assert sorted(response.status_code for response in pair) == [200, 409]
            alone = await step(first, key, 10)
            there = await step(second, key, 11)
        finally:
            await first.aclose()
            await second.aclose()
    assert alone.status_code == 200
    assert "E5.sequence" not in unseen(there)


async def test_another_customers_session_of_the_same_name_is_another_session(settings: Settings) -> None:
    key, stranger = await new_key(settings), await new_key(settings)
    async with running(settings) as client:
        await step(client, key, 7)
        theirs = await step(client, stranger, 7)
    assert theirs.status_code == 200
    assert "E5.sequence" in unseen(theirs)


async def test_a_state_that_cannot_be_is_refused_before_any_inference_and_its_seq_is_free(settings: Settings) -> None:
    key = await new_key(settings)
    impossible = [0.0, 9.9, *STATE[2:]]
    async with running(settings) as client:
        await step(client, key, 1)
        refused = await step(client, key, 2, state=impossible)
        again = await step(client, key, 2)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (422, "invalid_state", "state[1]")
    assert "E5.sequence" not in unseen(again)


async def test_when_redis_loses_the_session_rules_say_so(settings: Settings) -> None:
    key = await new_key(settings)
    async with running(settings) as client:
        await step(client, key, 1)
        async with Redis.from_url(str(settings.redis_url)) as redis:
            names = [name async for name in redis.scan_iter("vla:session:*")]
            assert len(names) == 1
            assert 0 < await redis.pttl(names[0]) <= 10_000
            assert 0 < (await redis.memory_usage(names[0]) or 0) < 13_000
            await redis.delete(*names)
        after = await step(client, key, 1)
    assert "E5.sequence" in unseen(after)


async def test_when_redis_dies_a_session_is_answered_and_known_to_be_unknown(environment: dict[str, str]) -> None:
    async with own_valkey() as valkey:
        settings = settings_of(environment, redis_url=valkey.url, redis_timeout_s="0.5")
        key = await new_key(settings)
        async with running(settings) as client:
            await step(client, key, 1)
            valkey.kill()
            alone = await step(client, key, 2)
            replay = await step(client, key, 2)
    assert "E5.sequence" in unseen(alone)
    assert replay.status_code == 200  # nobody can say that it is one


async def test_a_zero_retention_customers_session_holds_no_number_of_the_robot(settings: Settings) -> None:
    key = await new_key(settings)
    forget = text(
        "UPDATE customer_accounts SET is_zero_retention = true WHERE id = (SELECT customer_id FROM api_keys WHERE id = :id)"
    )
    async with stores(settings) as there, there.engine.begin() as connection:
        await connection.execute(forget, {"id": key.id})
    async with Redis.from_url(str(settings.redis_url)) as redis:
        await redis.flushall()  # the key's record as it was made
        async with running(settings) as client:
            await step(client, key, 1)
            again, replay = await step(client, key, 2), await step(client, key, 2)
        (name,) = [name async for name in redis.scan_iter("vla:session:*")]
        assert set(await redis.hkeys(name)) == {b"last", b"settled", b"seq", b"before_settled", b"before_seq"}
        events = await events_in(redis)
    assert "E5.sequence" in unseen(again)
    assert replay.status_code == 409
    assert [(event.instruction, event.action, event.raw_action) for event in events] == [(None, None, None)] * 3


async def test_a_dry_run_is_limited_recorded_and_touches_no_session(settings: Settings) -> None:
    key = await new_key(settings)
    headers = {"Authorization": f"Bearer {key.text}"}
    check = {"actions": [[0.001] * 7] * 8, "seq": 1, "previous": {"actions": [[0.001] * 7] * 8, "age_ms": 100, "seq": 0}}
    async with running(settings) as client:
        await step(client, key, 5)
        checked = await client.post("/v1/safety/check", json=check, headers=headers)
        replay = await client.post("/v1/safety/check", json={**check, "seq": 0}, headers=headers)
        after = await step(client, key, 6)
    assert (checked.status_code, checked.json()["safety"]["decision"]) == (200, "pass")
    assert checked.json()["usage"]["requests_remaining_day"] == 9998
    assert "E5.sequence" not in unseen(checked)
    assert (replay.status_code, replay.json()["error"]["param"]) == (409, "seq")
    assert "E5.sequence" not in unseen(after)
    async with Redis.from_url(str(settings.redis_url)) as redis:
        events = await events_in(redis)
        held = [name async for name in redis.scan_iter("vla:leases:*")]
    found = [(event.status, event.is_billable) for event in events]
    success, checks = (UsageStatus.SUCCESS, True), (UsageStatus.CHECKED, False)
    assert found == [success, checks, (UsageStatus.INVALID, False), success]
    assert held == []


async def test_without_a_session_id_nothing_is_remembered(settings: Settings) -> None:
    key = await new_key(settings)
    async with running(settings) as client:
        for _ in range(2):
            assert (await post(client, key, {**MINIMAL, "seq": 3, "state": STATE})).status_code == 200
    async with Redis.from_url(str(settings.redis_url)) as redis:
        assert [name async for name in redis.scan_iter("vla:session:*")] == []


async def test_a_seq_that_is_no_count_is_refused(settings: Settings) -> None:
    key = await new_key(settings)
    async with running(settings) as client:
        for seq in (-1, 2**53 + 1, 1.5, "3", True):
            refused = await post(client, key, {**MINIMAL, "session_id": "ep-17", "seq": seq})
            assert (refused.status_code, refused.json()["error"]["param"]) == (422, "seq")


def test_a_session_key_says_nothing_of_the_session_id() -> None:
    key = SessionKey(customer_id=UUID(int=1), policy="p", robot_type="r", session_id="secret name")
    assert b"secret" not in key.name()
