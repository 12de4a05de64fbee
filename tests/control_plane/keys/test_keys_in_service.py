"""Scoped keys, test keys and allow lists through the whole application over real servers."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from billing.tiers import Tier, trial_limits
from control_plane.db import create_engine
from control_plane.keys.verbs import NewKey
from control_plane.redis import create_redis
from control_plane.settings import Settings
from control_plane.usage.event import UsageEvent, encode
from control_plane.usage.intake import Intake
from control_plane.usage.reconcile import reconcile
from tests.control_plane.whole_app import MINIMAL, another_key, events_in, new_key, post, running, settings_of, variables

ROBOT = "franka_panda"


@pytest.fixture
def settings(database_url: str, clean_redis_url: str, triton_url: str, tmp_path: Path) -> Settings:
    """Of an application with a database of its own."""
    environment = variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path)
    return settings_of(environment)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that application."""
    async with running(settings) as there:
        yield there


def fault(response: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and field of an error."""
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


async def events(settings: Settings) -> list[UsageEvent]:
    """What has been journalled."""
    redis = create_redis(str(settings.redis_url), timeout_s=5)
    try:
        return await events_in(redis)
    finally:
        await redis.aclose()


async def test_a_scoped_key_is_refused_elsewhere_before_anything_is_counted(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    whole = await new_key(settings)
    key = await another_key(settings, whole, NewKey(robots=[ROBOT], policies=["tabletop"]))
    assert (await post(client, key)).status_code == 200
    for named in ("openvla-7b", "no-such-model"):
        assert fault(await post(client, key, {**MINIMAL, "model": named})) == (403, "policy_out_of_scope", "model")
    refused = await post(client, key, {**MINIMAL, "robot_type": "ur5e"})
    assert fault(refused) == (403, "robot_out_of_scope", "robot_type")
    assert refused.json()["error"]["robot_action"] == "stop"
    assert (await post(client, key)).json()["usage"]["requests_remaining_day"] == 10_000 - 2
    assert len(await events(settings)) == 2


async def test_a_key_for_another_robot_or_policy_gets_nothing_from_the_defaults(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    whole = await new_key(settings)
    for new, named in ((NewKey(robots=["ur5e"]), "robot_type"), (NewKey(policies=["openvla-7b"]), "model")):
        key = await another_key(settings, whole, new)
        assert fault(await post(client, key))[::2] == (403, named)
        authorization = {"Authorization": f"Bearer {key.text}"}
        shown = (await client.get("/v1/models", headers=authorization)).json()["models"]
        assert [model["id"] for model in shown] == ([] if named == "model" else ["tabletop"])
        check = await client.post("/v1/safety/check", headers=authorization, json={"actions": [[0.0] * 7]})
        assert fault(check)[::2] == (403, named)
        change = await client.put("/v1/safety/settings", headers=authorization, json={"settings": {}})
        assert fault(change) == (403, "key_restricted", None)


async def test_a_test_key_runs_the_real_pipeline_says_so_and_leaves_the_live_limits_alone(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    live = await new_key(settings)
    test = await another_key(settings, live, NewKey(is_test=True))
    assert test.text.startswith("vla_test_")
    answer = await post(client, test)
    assert (answer.status_code, answer.json()["is_test"], answer.headers["X-Vla-Test"]) == (200, True, "true")
    assert answer.json()["action"]["values"]
    limits = trial_limits()
    assert answer.json()["usage"]["requests_remaining_day"] == limits.per_day - 1
    for _ in range(limits.per_minute):
        refused = await post(client, test)
    assert fault(refused)[:2] == (429, "minute_limit")
    answer = await post(client, live)
    assert answer.json()["usage"]["requests_remaining_minute"] == 99
    assert answer.json()["usage"]["requests_remaining_day"] == 9_999
    assert "is_test" not in answer.json()
    assert "X-Vla-Test" not in answer.headers


async def test_a_test_keys_session_is_not_a_live_robots(client: httpx.AsyncClient, settings: Settings) -> None:
    live = await new_key(settings)
    test = await another_key(settings, live, NewKey(is_test=True))
    body: Mapping[str, Any] = {**MINIMAL, "session_id": "ep-17", "seq": 7}
    assert (await post(client, test, body)).status_code == 200
    assert (await post(client, live, body)).status_code == 200
    assert fault(await post(client, live, body))[:2] == (409, "sequence_replayed")


async def test_a_test_request_is_logged_and_marked_and_in_no_roll_up(
    client: httpx.AsyncClient, settings: Settings, database_url: str
) -> None:
    live = await new_key(settings, tier=Tier.ENTERPRISE)
    test = await another_key(settings, live, NewKey(is_test=True))
    for key in (live, test, test):
        assert (await post(client, key)).status_code == 200
    payloads = [encode(event) for event in await events(settings)]
    connection = await asyncpg.connect(database_url)
    engine = create_engine(database_url)
    try:
        outcome = await Intake().take(connection, payloads, now=datetime.now(UTC))
        assert (outcome.recorded, outcome.duplicates, outcome.dead) == (3, 0, ())
        again = await Intake().take(connection, payloads, now=datetime.now(UTC))
        assert (again.recorded, again.duplicates, again.dead) == (0, 3, ())
        rows = await connection.fetch("SELECT is_test, is_billable, status FROM inference_logs ORDER BY request_id")
        assert [tuple(row) for row in rows] == [(False, True, "success")] + [(True, False, "success")] * 2
        for table in ("usage_days", "usage_months"):
            (counted,) = await connection.fetch(f"SELECT requests, billable_requests FROM {table}")  # noqa: S608 -- of this loop
            assert tuple(counted) == (1, 1)
        assert await reconcile(engine, datetime.now(UTC).date()) == ()
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("UPDATE inference_logs SET is_billable = true WHERE is_test")
    finally:
        await connection.close()
        await engine.dispose()


async def test_a_key_with_an_allow_list_is_good_from_there_only(settings: Settings) -> None:
    whole = await new_key(settings)
    key = await another_key(settings, whole, NewKey(allowed_ips=["127.0.0.0/8"]))
    far = await another_key(settings, whole, NewKey(allowed_ips=["203.0.113.0/24", "2001:db8::/32"]))
    async with running(settings) as client:  # its transport says that it is 127.0.0.1
        assert (await post(client, key)).status_code == 200
        assert fault(await post(client, far)) == (403, "address_not_allowed", None)
        headers = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Authorization": f"Bearer {far.text}"}
        assert fault(await client.get("/v1/robots", headers=headers)) == (403, "address_not_allowed", None)
    async with running(settings.model_copy(update={"trusted_proxies": "127.0.0.1"})) as client:
        assert (await client.get("/v1/robots", headers=headers)).status_code == 200
        headers["X-Forwarded-For"] = "203.0.113.9, 198.51.100.7"
        assert fault(await client.get("/v1/robots", headers=headers)) == (403, "address_not_allowed", None)
