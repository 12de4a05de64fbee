"""`GET /v1/robots` and the safety profiles: every number with its source, null where there is none."""

from typing import Any

import pytest

from safety.profile import known_robots, load_profile
from tests.control_plane.fakes import House


async def test_every_robot_with_a_profile_is_listed() -> None:
    async with House().client() as client:
        response = await client.get("/v1/robots")
    robots = {robot["robot_type"]: robot for robot in response.json()["robots"]}
    assert set(robots) == set(known_robots())
    panda = robots["franka_panda"]
    profile = load_profile("franka_panda")
    assert panda["profile"] == f"franka_panda@{profile.version}/sha256:{profile.content_hash[:16]}"
    assert panda["presets"] == ["reduced", "manufacturer"]
    assert (panda["models"], panda["action_kinds"]) == (["tabletop"], ["ee_delta_rotvec"])


@pytest.mark.parametrize("robot", known_robots())
async def test_every_number_of_a_profile_has_a_source(robot: str) -> None:
    async with House().client() as client:
        response = await client.get(f"/v1/robots/{robot}/safety-profile")
    body = response.json()
    profile = load_profile(robot)
    assert response.status_code == 200, response.text
    assert (body["version"], body["content_hash"], body["certified"]) == (
        profile.version,
        f"sha256:{profile.content_hash}",
        False,
    )
    sourced = list(_sourced(body["profile"]))
    assert len(sourced) >= 5
    assert all(isinstance(source, str) and source for source in sourced)
    assert set(body["limits"]) == {"reduced", "manufacturer"}


def _sourced(value: Any) -> list[str]:
    if isinstance(value, dict):
        here = [value["source"]] if "source" in value else []
        return here + [source for item in value.values() for source in _sourced(item)]
    return [source for item in value for source in _sourced(item)] if isinstance(value, list) else []


async def test_what_nobody_published_is_null() -> None:
    async with House().client() as client:
        body = (await client.get("/v1/robots/franka_panda/safety-profile")).json()
    assert body["profile"]["gripper"]["step_max"] is None
    assert body["profile"]["cartesian"]["linear_speed_m_per_s"]["value"] == 1.7
    assert body["limits"]["reduced"]["linear_speed_m_per_s"] == 0.25
    assert body["limits"]["manufacturer"]["linear_speed_m_per_s"] == 1.7


@pytest.mark.parametrize("robot", ["franka", "FRANKA_PANDA", "..%2Ffranka_panda", "franka_panda.toml", "x" * 5000])
async def test_an_unknown_robot_is_a_404(robot: str) -> None:
    async with House().client() as client:
        response = await client.get(f"/v1/robots/{robot}/safety-profile")
    assert response.status_code == 404
    assert response.json()["error"]["code"] in {"robot_not_found", "not_found"}


async def test_both_need_a_key_and_take_only_get() -> None:
    async with House().client() as client:
        for path in ("/v1/robots", "/v1/robots/franka_panda/safety-profile"):
            refused = await client.get(path, headers={"Authorization": ""})
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unknown_key")
            assert (await client.post(path)).status_code == 405
