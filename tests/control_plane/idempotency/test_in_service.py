"""Idempotency-Key through the whole application over real servers: answered again, billed once, whatever dies in between."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from billing.tiers import Tier
from control_plane.customers.verbs import NewCustomer, create_customer
from control_plane.idempotency.claims import Claims
from control_plane.keys.verbs import IssuedKey, NewKey, revoke_key
from control_plane.operators.roles import Role
from control_plane.operators.verbs import create_operator
from control_plane.redis import create_redis
from control_plane.settings import Settings
from control_plane.usage.event import UsageStatus, encode
from control_plane.usage.inference_logs import Outcome
from control_plane.usage.intake import Intake
from tests.control_plane.eventually import eventually
from tests.control_plane.whole_app import (
    MINIMAL,
    PATH,
    another_key,
    answers,
    events_in,
    new_key,
    pid_of,
    process,
    running,
    settings_of,
    stores,
    variables,
)

ONCE = "8e03978e-40d5-43e8-bc93-6894a57f9324"


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, triton_url: str, tmp_path: Path) -> dict[str, str]:
    """Of an application with a database of its own."""
    return variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path)


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The same, read."""
    return settings_of(environment)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that application."""
    async with running(settings) as there:
        yield there


@pytest.fixture
async def redis(clean_redis_url: str) -> AsyncIterator[Redis]:
    """The session's Valkey, emptied."""
    there = create_redis(clean_redis_url, timeout_s=10)
    yield there
    await there.aclose()


async def ask(
    client: httpx.AsyncClient, key: IssuedKey, once: str | None = ONCE, body: Mapping[str, Any] = MINIMAL, path: str = PATH
) -> httpx.Response:
    """One POST under that Idempotency-Key."""
    headers = {"Authorization": f"Bearer {key.text}", "Content-Type": "application/json"}
    if once is not None:
        headers["Idempotency-Key"] = once
    return await client.post(path, content=msgspec.json.encode(body), headers=headers)


def code(response: httpx.Response) -> str:
    """How it ended."""
    return "ok" if response.status_code == 200 else str(response.json()["error"]["code"])


def is_replayed(response: httpx.Response) -> bool:
    """Whether it says so."""
    return bool(response.headers.get("Idempotent-Replayed") == "true")


async def record(database_url: str, redis: Redis) -> tuple[Outcome, list[tuple[str, bool]]]:
    """Records what is in the stream; every row's status and whether it is billed."""
    connection = await asyncpg.connect(database_url)
    try:
        payloads = [encode(event) for event in await events_in(redis)]
        outcome = await Intake().take(connection, payloads, now=datetime.now(UTC))
        rows = await connection.fetch("SELECT status, is_billable FROM inference_logs")
        return outcome, [tuple(row) for row in rows]
    finally:
        await connection.close()


async def test_a_retry_gets_the_first_answer_to_the_byte_and_is_billed_once(
    client: httpx.AsyncClient, settings: Settings, redis: Redis, database_url: str
) -> None:
    key = await new_key(settings)
    first = await ask(client, key)
    again = [await ask(client, key) for _ in range(3)]
    assert (first.status_code, is_replayed(first)) == (200, False)
    for response in again:
        assert (response.status_code, response.content, is_replayed(response)) == (200, first.content, True)
        assert response.headers["Content-Type"] == first.headers["Content-Type"]
        assert response.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert first.json()["request_id"] == first.headers["X-Request-Id"]
    _, rows = await record(database_url, redis)
    assert rows == [("success", True)]


async def test_another_body_is_409_and_another_customer_or_key_is_another_request(
    client: httpx.AsyncClient, settings: Settings, redis: Redis
) -> None:
    key, stranger = await new_key(settings), await new_key(settings)
    same_customer = await another_key(settings, key, NewKey())
    scoped = await another_key(settings, key, NewKey(robots=["franka_panda"]))
    first = await ask(client, key)
    other = await ask(client, key, body={**MINIMAL, "instruction": "put it down"})
    assert (other.status_code, code(other)) == (409, "idempotency_key_reused")
    assert other.json()["error"]["param"] == "Idempotency-Key"
    assert is_replayed(await ask(client, same_customer))
    for someone in (stranger, scoped):
        response = await ask(client, someone)
        assert (response.status_code, is_replayed(response)) == (200, False)
        assert response.json()["request_id"] != first.json()["request_id"]
    assert len(await events_in(redis)) == 3


async def test_of_many_at_once_one_is_worked_on(client: httpx.AsyncClient, settings: Settings, redis: Redis) -> None:
    key = await new_key(settings)
    responses = await asyncio.gather(*(ask(client, key) for _ in range(16)))
    codes = [code(response) for response in responses]
    assert set(codes) <= {"ok", "request_in_progress"}
    assert len({response.content for response in responses if code(response) == "ok"}) == 1
    busy = next(response for response in responses if code(response) == "request_in_progress")
    assert (busy.status_code, busy.headers["Retry-After"], busy.json()["error"]["is_retryable"]) == (409, "1", True)
    assert len(await events_in(redis)) == 1


async def test_a_malformed_key_is_400_and_the_callers_own_key_comes_first(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    assert code(await ask(client, key, once="a b")) == "invalid_idempotency_key"
    assert (await ask(client, key, once='""')).status_code == 400
    stranger = await client.post(PATH, json=MINIMAL, headers={"Idempotency-Key": ONCE})
    assert code(stranger) == "missing_key"
    assert (await ask(client, key, once=f'"{ONCE}"')).status_code == 200
    assert is_replayed(await ask(client, key, once=ONCE))
    async with stores(settings) as there:
        await revoke_key(there, key.id)

    async def is_refused() -> bool:
        return code(await ask(client, key)) == "revoked_key"

    await eventually(is_refused)


async def test_a_mistake_is_answered_again_and_a_refusal_by_a_limit_is_not_kept(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    key = await new_key(settings, tier=Tier.FREE)
    wrong = {**MINIMAL, "state": [1.0]}
    first, again = [await ask(client, key, body=wrong) for _ in range(2)]
    assert (code(first), again.content, is_replayed(again)) == ("invalid_state", first.content, True)
    while (limited := await ask(client, key, once="other")).status_code == 200 and not is_replayed(limited):
        pass
    for number in range(12):
        limited = await ask(client, key, once=f"n{number}")
    assert code(limited) == "minute_limit"
    assert not is_replayed(await ask(client, key, once="n11"))


async def test_a_motion_is_not_given_again_when_it_is_old(client: httpx.AsyncClient, settings: Settings, redis: Redis) -> None:
    key = await new_key(settings)
    assert (await ask(client, key)).status_code == 200
    (name,) = await redis.keys("vla:idempotency:*:answer")
    assert 0 < await redis.pttl(name) <= 10_000
    await redis.pexpire(name, 1)

    async def is_gone() -> bool:
        return code(await ask(client, key)) == "answer_gone"

    await eventually(is_gone)
    assert len(await events_in(redis)) == 1


async def test_under_zero_retention_no_answer_is_kept_and_the_work_is_still_done_once(
    client: httpx.AsyncClient, settings: Settings, redis: Redis
) -> None:
    async with stores(settings) as there:
        new = NewCustomer(company_name="Secret Robotics", email="zero@example.com", is_zero_retention=True)
        key = (await create_customer(there, new, NewKey())).key
    first = await ask(client, key)
    assert code(await ask(client, key)) == "answer_gone"
    values = msgspec.json.encode(first.json()["action"]["chunk"])[:40]
    for name in await claim_names(redis):
        stored = await redis.dump(name) or b""
        assert values not in stored
        assert b"action" not in stored
        assert not name.endswith(":answer")
    assert len(await events_in(redis)) == 1


async def test_without_redis_at_most_once_is_not_promised_and_other_requests_are_served(
    database_url: str, triton_url: str, tmp_path: Path, settings: Settings
) -> None:
    key = await new_key(settings)
    nowhere = variables(database_url=database_url, redis_url="redis://127.0.0.1:1/0", triton_url=triton_url, spool=tmp_path / "s")
    async with running(settings_of(nowhere)) as client:
        refused = await ask(client, key)
        assert (refused.status_code, code(refused)) == (503, "idempotency_unavailable")
        assert (await ask(client, key, once=None)).status_code == 200


@asynccontextmanager
async def dying(patch: pytest.MonkeyPatch, *, how: str) -> AsyncIterator[None]:
    """While this lasts, an attempt never comes to keeping its answer: its process is gone before."""

    async def never(*_: Any, **__: Any) -> None:
        await asyncio.sleep(3600)

    with patch.context() as patched:
        patched.setattr(Claims, how, never)
        yield


async def test_a_retry_after_a_process_died_between_journal_and_answer_is_answered_and_billed_once(
    settings: Settings, redis: Redis, database_url: str
) -> None:
    key = await new_key(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Claims, "release", _nothing)
        async with running(settings) as client, dying(patch, how="finish"):
            lost = asyncio.create_task(ask(client, key))

            async def is_journalled() -> bool:
                return len(await events_in(redis)) == 1

            await eventually(is_journalled)
            lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)
    async with running(settings) as client:
        assert code(await ask(client, key)) == "request_in_progress"
        await redis.hset(await the_claim(redis), "until_ms", 0)  # its time is over
        retried, again = await ask(client, key), await ask(client, key)
    assert (retried.status_code, is_replayed(retried)) == (200, False)
    assert (again.content, is_replayed(again)) == (retried.content, True)
    events = await events_in(redis)
    assert len(events) == 2
    assert {event.request_id for event in events} == {events[0].request_id}
    outcome, rows = await record(database_url, redis)
    assert rows == [("success", True)]
    assert (outcome.recorded, outcome.duplicates, outcome.dead) == (1, 1, ())


async def _nothing(*_: Any, **__: Any) -> None:
    """A dead process says nothing."""


async def _holds(redis: Redis) -> bool:
    """Whether an attempt holds a key."""
    return bool(await redis.keys("vla:idempotency:*"))


async def claim_names(redis: Redis) -> list[str]:
    """Of claims and answers."""
    names: list[bytes] = await redis.keys("vla:idempotency:*")  # type: ignore[assignment]  # bytes in, bytes out
    return [name.decode() for name in names]


async def the_claim(redis: Redis) -> str:
    """The name of the one claim."""
    (claim,) = [name for name in await claim_names(redis) if not name.endswith(":answer")]
    return claim


async def test_a_killed_process_leaves_a_retry_that_is_billed_once(
    environment: dict[str, str], settings: Settings, redis: Redis, database_url: str, tmp_path: Path, server_folder: Path
) -> None:
    key = await new_key(settings)
    socket = server_folder / "once"
    with process(environment, socket=socket, log=tmp_path / "api.log") as client:
        async with client:
            await answers(client)
            pid = pid_of(socket)
            lost = asyncio.create_task(ask(client, key))
            await eventually(partial(_holds, redis), every_s=0)  # from here on anything may have happened
            os.kill(pid, signal.SIGKILL)
            await asyncio.gather(lost, return_exceptions=True)
    async with running(settings) as survivor:
        await redis.hset(await the_claim(redis), "until_ms", 0)
        assert (await ask(survivor, key)).status_code == 200
    outcome, rows = await record(database_url, redis)
    assert rows == [("success", True)]
    assert outcome.dead == ()


async def test_who_hangs_up_and_asks_again_is_billed_once(settings: Settings, redis: Redis, database_url: str) -> None:
    key = await new_key(settings)
    async with running(settings) as client:
        for pause_s in (0.0, 0.002, 0.005, 0.01, 0.02, 0.05):
            gone = asyncio.create_task(ask(client, key, once=f"after {pause_s}".replace(" ", "-")))
            await asyncio.sleep(pause_s)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

            async def is_answered(once: str = f"after-{pause_s}") -> bool:
                return (await ask(client, key, once=once)).status_code == 200

            await eventually(is_answered)
    outcome, rows = await record(database_url, redis)
    assert [row for row in rows if row[1]] == [("success", True)] * 6
    assert outcome.dead == ()
    assert {status for status, _ in rows} <= {UsageStatus.SUCCESS.value, UsageStatus.ERROR.value}


async def test_a_dry_run_is_made_once(client: httpx.AsyncClient, settings: Settings, redis: Redis) -> None:
    key = await new_key(settings)
    first, again = [await ask(client, key, body={"actions": [[0.0] * 7]}, path="/v1/safety/check") for _ in range(2)]
    assert (first.status_code, again.content, is_replayed(again)) == (200, first.content, True)
    assert len(await events_in(redis)) == 1
    assert not is_replayed(await ask(client, key))  # another route


async def test_without_the_header_nothing_is_remembered(client: httpx.AsyncClient, settings: Settings, redis: Redis) -> None:
    key = await new_key(settings)
    first, second = [await ask(client, key, once=None) for _ in range(2)]
    assert first.json()["request_id"] != second.json()["request_id"]
    assert await redis.keys("vla:idempotency:*") == []


async def test_an_operators_key_is_its_own_and_a_customers_opens_nothing(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    async with stores(settings) as there:
        operator = await create_operator(there, name="ops", role=Role.ADMIN, expires_in_days=None)
    headers = {"Authorization": f"Bearer {operator.text}", "Idempotency-Key": ONCE}
    refused = await client.post("/admin/v1/me", headers=headers)
    assert refused.status_code in {404, 405}
    stranger = await client.post("/admin/v1/me", headers=headers | {"Authorization": f"Bearer {key.text}"})
    assert stranger.status_code == 401
