"""`POST /v1/safety/check`: judged as a policy's motion would be, recorded, never billed, and total over bad input."""

from typing import Any

import msgspec
import numpy as np
import pytest

from control_plane.errors import ApiError
from control_plane.usage.event import UsageStatus
from tests.control_plane.fakes import STILL, FakeAuthenticator, FakeLimiter, House, picture, principal

PATH = "/v1/safety/check"
SMALL: list[list[float]] = np.full((8, 7), 0.001).tolist()
SPACE: dict[str, Any] = {
    "kind": "ee_delta_rotvec",
    "names": ["x", "y", "z", "rx", "ry", "rz"],
    "units": ["m", "m", "m", "rad", "rad", "rad"],
    "control_hz": 10,
}


async def checked(house: House, body: dict[str, Any]) -> Any:
    async with house.client() as client:
        return await client.post(PATH, json=body)


async def test_a_small_motion_passes_and_is_recorded_as_checked() -> None:
    house = House()
    response = await checked(house, {"actions": SMALL})
    body = response.json()
    assert response.status_code == 200, response.text
    assert (body["model"], body["robot_type"], body["safety"]["decision"]) == ("tabletop", "franka_panda", "pass")
    assert body["action"]["chunk"] == np.asarray(SMALL, np.float32).tolist()
    assert (body["action"]["values"], body["action"]["horizon"]) == (body["action"]["chunk"][0], 8)
    (event,) = house.journal.events
    assert (event.status, event.is_billable, event.route, event.policy) == (UsageStatus.CHECKED, False, PATH, "tabletop")
    assert (event.decision, event.action, event.raw_action, event.instruction) == ("pass", None, None, None)
    assert house.limiter.endings == ["settled"]
    assert house.triton.calls == []
    assert body["request_id"] == response.headers["x-request-id"]


async def test_a_motion_that_is_too_fast_is_clamped_and_one_that_leaps_is_refused() -> None:
    fast = np.array(SMALL)
    fast[3, 0] = 0.03
    body = (await checked(House(), {"actions": fast.tolist()})).json()
    assert body["safety"]["decision"] == "clamp"
    assert np.linalg.norm(np.asarray(body["action"]["chunk"][3])[:3]) <= 0.025 + 1e-7
    leap = (await checked(House(), {"actions": (STILL + 3).tolist()})).json()
    assert (leap["safety"]["decision"], leap["action"]) == ("reject", {"values": [], "chunk": [], "horizon": 0})
    assert leap["fallback"]["type"] == "hold"


async def test_the_verdict_is_the_one_that_inference_would_give() -> None:
    house = House()
    house.triton.action = np.asarray(SMALL, np.float32)
    async with house.client() as client:
        packed = msgspec.msgpack.encode({"image": picture(), "instruction": "pick up red cube"})
        headers = {"Content-Type": "application/msgpack"}
        inferred = (await client.post("/v1/inference", content=packed, headers=headers)).json()
    told = (await checked(House(), {"actions": SMALL})).json()
    assert told["action"]["chunk"] == inferred["action"]["chunk"]
    for name in ("decision", "overall_score", "profile", "guard_version"):
        assert told["safety"][name] == inferred["safety"][name]


async def test_actions_of_no_model_served_here_are_checked_by_their_description() -> None:
    house = House()
    response = await checked(house, {"actions": np.full((4, 6), 0.001).tolist(), "action": SPACE})
    assert response.status_code == 200, response.text
    assert (response.json()["model"], response.json()["safety"]["decision"]) == (None, "pass")
    assert house.journal.events[0].policy == "unknown"


async def test_a_tighter_limit_counts_and_a_looser_one_is_refused() -> None:
    tight = await checked(House(), {"actions": SMALL, "safety": {"linear_speed_m_per_s": 0.01}})
    assert tight.json()["safety"]["decision"] in {"clamp", "reject"}
    loose = await checked(House(), {"actions": SMALL, "safety": {"linear_speed_m_per_s": 5.0}})
    assert (loose.status_code, loose.json()["error"]["param"]) == (422, "safety.linear_speed_m_per_s")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({}, 422, "missing_field", "actions"),
        ({"actions": SMALL, "image": "x"}, 422, "unknown_field", "image"),
        ({"actions": "x"}, 422, "invalid_field", "actions"),
        ({"actions": [[True] * 7]}, 422, "invalid_field", "actions[0][0]"),
        ({"actions": [["0.5"] * 7]}, 422, "invalid_field", "actions[0][0]"),
        ({"actions": [[0.0] * 7, [0.0] * 6]}, 422, "invalid_field", "actions"),
        ({"actions": [[0.0] * 65]}, 422, "invalid_field", "actions[0]"),
        ({"actions": [[0.0] * 7] * 1001}, 422, "invalid_field", "actions"),
        ({"actions": SMALL, "model": "gpt"}, 404, "unknown_model", "model"),
        ({"actions": SMALL, "robot_type": "ur5e"}, 422, "unknown_robot", "robot_type"),
        ({"actions": SMALL, "robot_type": "nobody", "action": SPACE}, 422, "unknown_robot", "robot_type"),
        ({"actions": SMALL, "model": "tabletop", "action": SPACE}, 422, "invalid_field", "action"),
        ({"actions": SMALL, "action": {**SPACE, "units": ["mm"] * 6}}, 422, "invalid_field", "action.units"),
        ({"actions": SMALL, "action": {**SPACE, "kind": "warp"}}, 422, "invalid_field", "action.kind"),
        ({"actions": SMALL, "state": {"q": ["a"]}}, 422, "invalid_state", "state.q[0]"),
        ({"actions": SMALL, "previous": {"actions": [[]], "age_ms": 1}}, 422, "invalid_field", "previous.actions"),
        ({"actions": SMALL, "previous": {"actions": SMALL, "age_ms": -1}}, 422, "invalid_field", "previous.age_ms"),
        ({"actions": SMALL, "control_hz": 0}, 422, "invalid_field", "control_hz"),
        ({"actions": SMALL, "safety": {"state": {}}}, 422, "unknown_field", "safety.state"),
    ],
)
async def test_what_is_no_check_is_refused_by_name(body: dict[str, Any], status: int, code: str, param: str) -> None:
    house = House()
    response = await checked(house, body)
    assert (response.status_code, response.json()["error"]["code"], response.json()["error"]["param"]) == (status, code, param)
    assert all(not event.is_billable for event in house.journal.events)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e308, 1e39])
async def test_a_number_that_is_none_refuses_the_whole_motion(number: float) -> None:
    actions = [row[:] for row in SMALL]
    actions[5][2] = number
    house = House()
    async with house.client() as client:
        packed = msgspec.msgpack.encode({"actions": actions})
        response = await client.post(PATH, content=packed, headers={"Content-Type": "application/msgpack"})
    assert response.status_code == 200, response.text
    assert (response.json()["safety"]["decision"], response.json()["action"]["chunk"]) == ("reject", [])


@pytest.mark.parametrize("actions", [[], [[]], [[0.0] * 6], [[0.0] * 8], [[0.0] * 7] * 201])
async def test_a_motion_of_the_wrong_shape_is_a_verdict(actions: list[list[float]]) -> None:
    body = (await checked(House(), {"actions": actions})).json()
    assert (body["safety"]["decision"], body["safety"]["limiting_rule"]) == ("reject", "A1.shape_dtype")


async def test_it_needs_a_key_counts_against_the_limits_and_takes_two_content_types() -> None:
    house = House(limiter=FakeLimiter(refusal=ApiError("minute_limit", retry_after_ms=600)))
    assert (await checked(house, {"actions": SMALL})).status_code == 429
    assert house.journal.events == []
    async with House().client() as client:
        assert (await client.post(PATH, json={"actions": SMALL}, headers={"Authorization": ""})).status_code == 401
        assert (await client.post(PATH, content=b"x", headers={"Content-Type": "text/plain"})).status_code == 415
        assert (await client.get(PATH)).status_code == 405
        too_large = await client.post(PATH, content=b"[" * 3_000_000, headers={"Content-Type": "application/json"})
    assert too_large.status_code == 413


async def test_zero_retention_keeps_nothing_of_it() -> None:
    house = House(authenticator=FakeAuthenticator(holder=principal(is_zero_retention=True)))
    await checked(house, {"actions": (STILL + 3).tolist(), "instruction": "wave"})
    (event,) = house.journal.events
    assert (event.action, event.raw_action, event.instruction) == (None, None, None)
