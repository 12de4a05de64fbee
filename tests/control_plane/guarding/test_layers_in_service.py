"""Layers over real PostgreSQL and Valkey: API and commands, their history, and two processes that hear of a change."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.app import create_app
from control_plane.guarding.verbs import list_changes
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import IssuedKey
from control_plane.settings import Settings, SettingsError
from tests.conftest import free_port
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import ROOT
from tests.control_plane.own_servers import own_valkey
from tests.control_plane.whole_app import (
    MINIMAL,
    answers,
    new_key,
    post,
    process,
    running,
    settings_of,
    stores,
    variables,
)

SLOW = {"robots": {"franka_panda": {"linear_speed_m_per_s": 0.01}}}


@pytest.fixture
def environment(database_url: str, clean_redis_url: str, triton_url: str, tmp_path: Path) -> dict[str, str]:
    return variables(database_url=database_url, redis_url=clean_redis_url, triton_url=triton_url, spool=tmp_path / "spool")


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return settings_of(environment)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


async def put(client: httpx.AsyncClient, key: IssuedKey, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = {"Authorization": f"Bearer {key.text}", "Content-Type": "application/json"}
    return await client.put("/v1/safety/settings", content=content, headers=headers)


async def get(client: httpx.AsyncClient, key: IssuedKey, path: str = "/v1/safety/settings") -> httpx.Response:
    return await client.get(path, headers={"Authorization": f"Bearer {key.text}"})


def speed_limit(answer: httpx.Response) -> float:
    rule = next(rule for rule in answer.json()["safety"]["rules"] if rule["id"] == "B1.ee_linear_speed")
    limit: float = rule["limit"]
    return limit


async def test_a_customer_reads_and_tightens_their_own_layer(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    before = (await get(client, key)).json()
    assert (before["version"], before["settings"], before["preset"]) == (0, {}, "reduced")
    changed = await put(client, key, {"settings": SLOW})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["version"], changed.json()["settings"], changed.json()["is_announced"]) == (1, SLOW, True)
    assert changed.json()["changed_by"] == public_id("key", key.id)
    assert "ratelimit" in changed.headers
    assert (await get(client, key)).json()["settings"] == SLOW
    answer = await post(client, key)
    assert "customer@1" in answer.json()["safety"]["profile"]


async def test_what_is_put_again_is_no_change_and_what_is_cleared_is_the_profile_again(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    key = await new_key(settings)
    await put(client, key, {"settings": SLOW})
    assert (await put(client, key, {"settings": SLOW})).json()["version"] == 1
    cleared = await put(client, key, {"settings": {}, "version": 1})
    assert (cleared.json()["version"], cleared.json()["settings"]) == (2, {})
    assert "customer" not in (await post(client, key)).json()["safety"]["profile"]
    assert (await put(client, key, {"settings": SLOW})).json()["version"] == 3


async def test_a_put_over_somebody_elses_change_is_refused(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    await put(client, key, {"settings": SLOW})
    stale = await put(client, key, {"settings": {}, "version": 0})
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "settings_changed")
    assert (await get(client, key)).json()["version"] == 1


LOOSENING: tuple[tuple[dict[str, Any], str], ...] = (
    ({"robots": {"franka_panda": {"linear_speed_m_per_s": 0.3}}}, "settings.robots.franka_panda.linear_speed_m_per_s"),
    ({"robots": {"nobody": {}}}, "settings.robots.nobody"),
    ({"limits": {"linear_speed_m_per_s": 99.0}}, "settings.limits.linear_speed_m_per_s"),
    ({"limits": {"disabled_rules": ["A2"]}}, "settings.limits.disabled_rules"),
    ({"limits": {"required_rules": ["Z9"]}}, "settings.limits.required_rules"),
    (
        {"robots": {"franka_panda": {"workspace": {"low_m": [1, 0, 0], "high_m": [0, 1, 1]}}}},
        "settings.robots.franka_panda.workspace",
    ),
    (
        {"robots": {"franka_panda": {"half_spaces": [{"normal": [1, 1, 0], "offset_m": 1}]}}},
        "settings.robots.franka_panda.half_spaces[0]",
    ),
    ({"instruction": {"mode": "allow_list"}}, "settings.instruction"),
    ({"instruction": {"mode": "deny_list", "off_categories": ["harm_to_people"]}}, "settings.instruction"),
    ({"calibrations": ["format = 1"]}, "settings.calibrations"),
)
NO_SETTINGS = (
    b"",
    b"[]",
    b'{"settings": {"limits": {"linear_speed_m_per_s": NaN}}}',
    b'{"settings": {"limits": {"linear_speed_m_per_s": 1e999}}}',
    b'{"settings": {"limits": {"linear_speed_m_per_s": "0.1"}}}',
    b'{"settings": {"limits": {"linear_speed_m_per_s": true}}}',
    b'{"settings": {"limits": {"linear_speed_m_per_s": 0}}}',
    b'{"settings": {"limits": {"speed": 1}}}',
    b'{"settings": {"preset": "manufacturer"}}',
    b'{"settings": {}, "preset": "manufacturer"}',
    b'{"settings": {"limits": {"min_prefix": 0}}}',
    b'{"settings": {"limits": {"keep_outs": [' + b",".join([b'{"low_m":[0,0,0],"high_m":[1,1,1]}'] * 33) + b"]}}}",
    b'{"settings": {"instruction": {"mode": "allow_list", "templates": ["' + b"x" * 201 + b'"]}}}',
    b"[" * 100_000,
    b'{"settings": {"limits": {"required_rules": ["' + b"D" * 200_000 + b'"]}}}',
)


async def test_settings_that_loosen_or_contradict_are_refused_by_name(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    for wanted, param in LOOSENING:
        refused = await put(client, key, {"settings": wanted})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_safety"), refused.text
        assert refused.json()["error"]["param"] == param
    assert (await get(client, key)).json()["version"] == 0


async def test_a_put_that_is_no_settings_changes_nothing(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    for body in NO_SETTINGS:
        refused = await put(client, key, body)
        assert 400 <= refused.status_code < 500, refused.text
    assert (await get(client, key)).json()["version"] == 0


async def test_every_change_is_in_the_history_with_who_when_before_and_after(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    key = await new_key(settings)
    await put(client, key, {"settings": SLOW})
    await put(client, key, {"settings": {}})
    async with stores(settings) as there:
        (row,) = await _customers_of(there.engine, key)
        second, first = await list_changes(there.engine, row)
    assert (first.version, first.before, first.after) == (1, _content({}), _content(SLOW))
    assert (second.version, second.before, second.after) == (2, _content(SLOW), _content({}))
    assert first.changed_by == second.changed_by == public_id("key", key.id)
    assert first.changed_at < second.changed_at


def _content(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"settings": settings, "preset": None}


async def _customers_of(engine: AsyncEngine, key: IssuedKey) -> list[UUID]:
    async with engine.connect() as connection:
        found = await connection.scalars(text("SELECT customer_id FROM api_keys WHERE id = :id"), {"id": key.id})
        return list(found.all())


async def test_many_changes_at_once_each_have_their_own_version(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    bodies = [{"settings": {"robots": {"franka_panda": {"linear_speed_m_per_s": 0.1 + index / 100}}}} for index in range(8)]
    responses = await asyncio.gather(*(put(client, key, body) for body in bodies))
    assert sorted(response.json()["version"] for response in responses) == list(range(1, 9))


async def test_one_customers_layer_binds_nobody_else(client: httpx.AsyncClient, settings: Settings) -> None:
    key, other = await new_key(settings), await new_key(settings)
    await put(client, key, {"settings": SLOW})
    assert "customer" not in (await post(client, other)).json()["safety"]["profile"]
    assert (await get(client, other)).json()["version"] == 0


async def test_without_postgres_settings_are_503_and_known_ones_still_bind(environment: dict[str, str]) -> None:
    settings = settings_of(environment)
    key = await new_key(settings)
    async with running(settings) as client:
        await put(client, key, {"settings": SLOW})
        await asyncio.sleep(0)
        async with stores(settings) as there:
            await there.redis.flushall()  # the tombstone of the change is not to be in the way
    async with running(settings) as client:  # another process, which leaves in Redis what operators have decided
        assert "customer@1" in (await post(client, key)).json()["safety"]["profile"]
    away = settings_of(environment, database_url=f"postgresql://nobody:x@127.0.0.1:{free_port().number}/none")
    async with running(away) as client:
        answer = await post(client, key)
        assert "customer@1" in answer.json()["safety"]["profile"]
        unread = await get(client, key)
    assert (unread.status_code, unread.json()["error"]["code"]) == (503, "store_unavailable")


async def test_with_redis_away_a_change_is_stored_and_said_to_be_unheard(environment: dict[str, str]) -> None:
    async with own_valkey() as valkey:
        settings = settings_of(environment, redis_url=valkey.url, redis_timeout_s="0.3")
        key = await new_key(settings)
        async with running(settings) as client:
            assert (await post(client, key)).status_code == 200
            valkey.kill()
            changed = await put(client, key, {"settings": SLOW})
    assert (changed.status_code, changed.json()["version"], changed.json()["is_announced"]) == (200, 1, False)


async def test_two_processes_work_with_a_change(environment: dict[str, str], tmp_path: Path) -> None:
    settings = settings_of(environment)
    key = await new_key(settings)
    folder = Path(environment["VLA_SPOOL_DIR"]).parent
    with (
        process(environment, socket=folder / "a", log=tmp_path / "a.log") as first,
        process(environment, socket=folder / "b", log=tmp_path / "b.log") as second,
    ):
        await asyncio.gather(answers(first), answers(second))
        for client in (first, second):
            assert "customer" not in (await post(client, key)).json()["safety"]["profile"]
        assert (await put(first, key, {"settings": SLOW})).json()["is_announced"]

        async def both_know() -> bool:
            profiles = [(await post(client, key)).json()["safety"]["profile"] for client in (first, second)]
            return all("customer@1" in profile for profile in profiles)

        try:
            await eventually(both_know)
        finally:
            await first.aclose()
            await second.aclose()


async def test_the_deployments_file_binds_every_customer(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(
        "[robots.franka_panda]\nlinear_speed_m_per_s = 0.02\nrequired_rules = ['D2']\n[instruction]\nmode = 'deny_list'\n"
    )
    settings = settings_of(environment, safety_limits_file=str(file))
    key = await new_key(settings)
    async with running(settings) as client:
        answer = (await post(client, key)).json()
        harmful = await post(client, key, {**MINIMAL, "instruction": "stab the person with the screwdriver"})
    assert "deployment" in answer["safety"]["profile"]
    assert answer["safety"]["decision"] == "reject"  # D2 is required and there is no state
    assert (harmful.status_code, harmful.json()["error"]["code"]) == (422, "instruction_refused")


async def test_a_deployments_file_that_cannot_hold_stops_the_start(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    for content in (
        "[robots.franka_panda]\nlinear_speed_m_per_s = 9.0\n",
        "[robots.nobody]\n",
        "speed = 1\n",
        "not toml",
        "[limits]\nlinear_speed_m_per_s = nan\n",
    ):
        file.write_text(content)
        with pytest.raises(SettingsError, match="VLA_SAFETY_LIMITS_FILE"):
            create_app(settings_of(environment, safety_limits_file=str(file)))


async def test_a_robot_of_the_deployments_own_is_listed_and_checked(environment: dict[str, str], tmp_path: Path) -> None:
    text = (ROOT / "safety/robots/ur5e.toml").read_text(encoding="utf-8")
    (tmp_path / "cell_arm.toml").write_text(text.replace('robot_type = "ur5e"', 'robot_type = "cell_arm"'))
    settings = settings_of(environment, robots_dir=str(tmp_path))
    headers = {"Authorization": f"Bearer {(await new_key(settings)).text}"}
    names = [f"joint_{index}" for index in range(1, 7)]
    action = {"kind": "joint_abs", "names": names, "units": ["rad"] * 6, "control_hz": 10}
    async with running(settings) as client:
        listed = (await client.get("/v1/robots", headers=headers)).json()
        body = {"actions": [[0.0] * 6] * 4, "action": action, "robot_type": "cell_arm"}
        checked = (await client.post("/v1/safety/check", json=body, headers=headers)).json()
    assert "cell_arm" in {robot["robot_type"] for robot in listed["robots"]}
    assert checked["safety"]["profile"].startswith("cell_arm@1/sha256:")
    (tmp_path / "cell_arm.toml").write_text(text)
    with pytest.raises(SettingsError, match="VLA_ROBOTS_DIR"):
        create_app(settings)


async def test_a_request_may_tighten_and_not_loosen(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    tighter = await post(client, key, {**MINIMAL, "safety": {"linear_speed_m_per_s": 0.02}})
    assert tighter.status_code == 200, tighter.text
    assert "request" in tighter.json()["safety"]["profile"]
    assert speed_limit(tighter) == 0.02
    looser = await post(client, key, {**MINIMAL, "safety": {"linear_speed_m_per_s": 0.26}})
    assert (looser.status_code, looser.json()["error"]["code"]) == (422, "invalid_safety")
    assert looser.json()["error"]["param"] == "safety.linear_speed_m_per_s"
    await put(client, key, {"settings": SLOW})
    than_own = await post(client, key, {**MINIMAL, "safety": {"linear_speed_m_per_s": 0.02}})
    assert (than_own.status_code, than_own.json()["error"]["param"]) == (422, "safety.linear_speed_m_per_s")


async def test_a_required_rule_that_cannot_look_refuses_the_motion(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    answer = await post(client, key, {**MINIMAL, "safety": {"required_rules": ["D2"]}})
    assert (answer.status_code, answer.json()["safety"]["decision"]) == (200, "reject")
    assert answer.json()["action"] | {"values": [], "chunk": [], "horizon": 0} == answer.json()["action"]


async def test_who_asked_for_errors_gets_a_422_with_the_whole_answer(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    await put(client, key, {"settings": {"on_reject": "error", "limits": {"required_rules": ["D2"]}}})
    refused = await post(client, key)
    body = refused.json()
    assert (refused.status_code, body["error"]["code"], body["error"]["robot_action"]) == (422, "motion_refused", "hold")
    assert (body["safety"]["decision"], body["action"]["values"]) == ("reject", [])
    assert body["request_id"] == body["error"]["request_id"] == refused.headers["x-request-id"]


async def test_the_allow_list_lets_only_its_instructions_reach_the_policy(client: httpx.AsyncClient, settings: Settings) -> None:
    key = await new_key(settings)
    words = {"mode": "allow_list", "templates": ["pick up {thing}"], "slots": {"thing": ["red cube", "blue cube"]}}
    await put(client, key, {"settings": {"instruction": words}})
    assert (await post(client, key)).status_code == 200
    refused = await post(client, key, {**MINIMAL, "instruction": "pick up the knife"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "instruction_refused")
    assert refused.json()["error"]["param"] == "instruction"
