"""`POST /v1/inference` over HTTP: every wire, every field of the answer, and callers who leave."""

import asyncio
import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest

from control_plane.inference.body import BodyLimits
from control_plane.triton import TritonCall
from control_plane.usage.event import UsageStatus
from tests.control_plane.fakes import KEY, STILL, FakeTriton, House, picture

ENCODED = base64.b64encode(picture()).decode()
MINIMAL = {"image": ENCODED, "instruction": "pick up red cube"}
PATH = "/v1/inference"


async def test_the_minimal_body_is_answered_with_every_field() -> None:
    house = House(triton=FakeTriton(action=STILL + np.float32(0.001)))
    async with house.client() as client:
        response = await client.post(PATH, json=MINIMAL)
    body = response.json()
    assert response.status_code == 200
    assert set(body) == {
        "request_id",
        "model",
        "model_version",
        "robot_type",
        "session_id",
        "seq",
        "action",
        "safety",
        "modified",
        "truncated_at",
        "expires_in_ms",
        "refused_for",
        "timings_ms",
        "usage",
    }
    assert (body["model"], body["model_version"], body["robot_type"]) == ("tabletop", "1", "franka_panda")
    assert body["action"]["chunk"] == (STILL + np.float32(0.001)).tolist()
    assert body["action"]["values"] == body["action"]["chunk"][0]
    assert (body["action"]["kind"], body["action"]["horizon"], body["action"]["control_hz"]) == ("ee_delta_rotvec", 8, 10.0)
    assert body["safety"]["decision"] == "pass"
    assert {"decode", "preprocess", "queue", "compute", "guard", "total"} <= set(body["timings_ms"])
    assert body["usage"] == {"requests_remaining_minute": 99, "requests_remaining_day": 9999, "requests_remaining_month": None}
    assert response.headers["x-request-id"] == body["request_id"]
    assert "compute;dur=" in response.headers["server-timing"]
    assert response.headers["ratelimit"].startswith('"minute"')
    assert response.headers["content-type"] == "application/json"


async def test_session_and_sequence_are_echoed() -> None:
    async with House().client() as client:
        body = (await client.post(PATH, json={**MINIMAL, "session_id": "ep-17", "seq": 12})).json()
    assert (body["session_id"], body["seq"]) == ("ep-17", 12)


async def test_multipart_and_msgpack_are_answered_like_json() -> None:
    house = House()
    async with house.client() as client:
        form = await client.post(
            PATH, files={"image": picture()}, data={"instruction": "pick up red cube", "state": "[0,0,0,-2,0,2,0,0.04]"}
        )
        packed = msgspec.msgpack.encode({"image": picture(), "instruction": "pick up red cube"})
        binary = await client.post(PATH, content=packed, headers={"Content-Type": "application/msgpack"})
    assert (form.status_code, binary.status_code) == (200, 200)
    pixels = [call.inputs[0].data for call in house.triton.calls]
    assert pixels[0] == pixels[1]


async def test_a_path_that_leaves_the_workspace_is_cut_and_the_answer_says_where() -> None:
    outward = np.zeros((8, 7), np.float32)
    outward[:, 0] = 0.02
    house = House(triton=FakeTriton(action=outward))
    limits = {
        "workspace": {"low_m": [0.2, -0.5, 0.0], "high_m": [0.57, 0.5, 0.8]},
        "state": {"ee_position": [0.5, 0.0, 0.3]},
    }
    async with house.client() as client:
        body = (await client.post(PATH, json={**MINIMAL, "safety": limits})).json()
    assert (body["safety"]["decision"], body["truncated_at"], body["modified"]) == ("truncate", 3, True)
    assert body["action"]["chunk"] == outward[:3].tolist()
    assert body["action"]["horizon"] == 3
    (event,) = house.journal.events
    assert (event.decision, event.is_billable, event.action) == ("truncate", True, outward[:3].tolist())
    assert event.raw_action == outward.tolist()
    counted = {"rule": "D2.workspace", "status": "truncated"}
    assert house.metrics.registry.get_sample_value("vla_guard_rules_total", counted) == 1
    decided = {"policy": "tabletop", "decision": "truncate"}
    assert house.metrics.registry.get_sample_value("vla_guard_decisions_total", decided) == 1


@pytest.mark.parametrize(
    ("told", "param"),
    [
        ({"q": [0.0] * 6}, "safety.state.q"),
        ({"q": [0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0]}, "safety.state.q[5]"),
        ({"ee_position": [0.0, 0.0]}, "safety.state.ee_position"),
        ({"ee_position": [0.0, 0.0, 5000.0]}, "safety.state.ee_position[2]"),
    ],
)
async def test_a_state_that_cannot_be_is_refused_by_the_name_it_was_sent_under(told: dict[str, Any], param: str) -> None:
    house = House()
    async with house.client() as client:
        response = await client.post(PATH, json={**MINIMAL, "safety": {"state": told}})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (422, "invalid_state", param)
    assert house.triton.calls == []


async def test_what_the_models_own_state_tells_is_not_told_twice() -> None:
    state = [0.0, -0.3, 0.0, -2.0, 0.0, 2.0, 0.8, 0.04]
    async with House().client() as client:
        response = await client.post(PATH, json={**MINIMAL, "state": state, "safety": {"state": {"q": state[:7]}}})
    assert (response.status_code, response.json()["error"]["param"]) == (422, "safety.state.q")


async def test_a_refusal_by_the_guard_is_a_200_without_any_value() -> None:
    async with House(triton=FakeTriton(action=np.full((8, 7), 3.0, np.float32))).client() as client:
        response = await client.post(PATH, json=MINIMAL)
    body = response.json()
    assert response.status_code == 200
    assert body["safety"]["decision"] == "reject"
    assert (body["action"]["values"], body["action"]["chunk"]) == ([], [])
    assert body["fallback"]["type"] == "hold"
    assert body["fallback"]["is_safe_state"] is False


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"image": "****"}, 422, "invalid_image", "image"),
        ({"image": base64.b64encode(picture(size=(4000, 300))).decode()}, 422, "invalid_image", "image"),
        ({"instruction": ""}, 422, "invalid_instruction", "instruction"),
        ({"instruction": "a" * 10_000}, 422, "invalid_instruction", "instruction"),
        ({"state": [True] * 8}, 422, "invalid_state", "state[0]"),
        ({"images": {"wrist": ENCODED}}, 422, "unknown_camera", "images.wrist"),
        ({"model": "gpt-5"}, 404, "unknown_model", "model"),
        ({"robot_type": "optimus"}, 422, "unknown_robot", "robot_type"),
        ({"unnorm_key": "bridge"}, 422, "unknown_unnorm_key", "unnorm_key"),
        ({"speed": 1}, 422, "unknown_field", "speed"),
    ],
)
async def test_a_mistake_is_told_in_our_shape(change: dict[str, Any], status: int, code: str, param: str) -> None:
    async with House().client() as client:
        response = await client.post(PATH, json={**MINIMAL, **change})
    error = response.json()["error"]
    assert response.status_code == status
    assert (error["code"], error["param"]) == (code, param)
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["doc_url"] == f"https://api.example.com/errors#{code}"
    assert error["is_retryable"] is False


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, b"x", 415, "unsupported_media_type"),
        ({}, b"x", 415, "unsupported_media_type"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"x", 415, "unsupported_media_type"),
        ({"Content-Type": "application/json"}, b"{", 400, "invalid_body"),
        ({"Content-Type": "application/json"}, b" " * 1_000_001, 413, "body_too_large"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(headers: dict[str, str], body: bytes, status: int, code: str) -> None:
    async with House().client() as client:
        response = await client.post(PATH, content=body, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_without_a_key_the_robot_is_told_to_stop() -> None:
    async with House().client() as client:
        response = await client.post(PATH, json=MINIMAL, headers={"Authorization": "Bearer other"})
    assert response.status_code == 401
    assert response.json()["error"]["robot_action"] == "stop"


async def test_shed_load_says_when_to_come_back() -> None:
    async with House(max_in_flight=0).client() as client:
        response = await client.post(PATH, json=MINIMAL)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["retry_after_ms"] == 250


class Robot:
    """A caller on bare ASGI: sends its body in pieces and can hang up."""

    def __init__(self, house: House, *pieces: bytes, is_cut_short: bool = False) -> None:
        self._app = house.app()
        self._pieces = list(pieces)
        self._is_cut_short = is_cut_short
        self.hung_up = asyncio.Event()
        self.received: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or self._is_cut_short}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.received.append(message)

    async def post(self) -> None:
        headers = [(b"authorization", KEY.encode()), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "scheme": "http",
            "http_version": "1.1",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await self._app(scope, self.receive, self.send)


async def test_when_the_caller_hangs_up_the_work_stops_and_is_recorded() -> None:
    reached = asyncio.Event()

    async def hangs(_call: TritonCall) -> None:
        reached.set()
        await asyncio.Event().wait()

    house = House(triton=FakeTriton(before=hangs))
    robot = Robot(house, json.dumps(MINIMAL).encode())
    task = asyncio.create_task(robot.post())
    await reached.wait()
    robot.hung_up.set()
    await task
    assert robot.received == []
    assert [(event.status, event.error_code) for event in house.journal.events] == [(UsageStatus.ERROR, "cancelled")]
    assert house.limiter.endings == ["settled"]
    assert '"outcome":"client_gone"' in house.logs()


async def test_a_caller_who_hangs_up_while_sending_costs_nothing() -> None:
    house = House()
    robot = Robot(house, b'{"image": "', b"half", is_cut_short=True)
    robot.hung_up.set()
    await robot.post()
    assert (robot.received, house.journal.events) == ([], [])


async def test_a_body_in_many_pieces_is_put_together() -> None:
    body = json.dumps(MINIMAL).encode()
    house = House()
    robot = Robot(house, *(body[start : start + 100] for start in range(0, len(body), 100)))
    await robot.post()
    assert robot.received[0]["status"] == 200


async def test_a_slow_body_is_answered_with_408_and_the_line_is_cut() -> None:
    house = House(body_limits=BodyLimits(max_bytes=1000, timeout_s=0.01))
    robot = Robot(house)
    await robot.post()
    assert robot.received[0]["status"] == 408
    assert (b"connection", b"close") in robot.received[0]["headers"]


async def test_a_server_that_stops_settles_what_it_was_doing() -> None:
    reached = asyncio.Event()

    async def hangs(_call: TritonCall) -> None:
        reached.set()
        await asyncio.Event().wait()

    house = House(triton=FakeTriton(before=hangs))
    task = asyncio.create_task(Robot(house, json.dumps(MINIMAL).encode()).post())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [event.error_code for event in house.journal.events] == ["cancelled"]
    assert '"outcome":"cancelled"' in house.logs()


async def test_many_at_once_are_all_answered_with_their_own_ids() -> None:
    house = House(max_in_flight=64)
    async with house.client() as client:
        responses = await asyncio.gather(*(client.post(PATH, json=MINIMAL) for _ in range(32)))
    assert {response.status_code for response in responses} == {200}
    ids = {response.json()["request_id"] for response in responses}
    assert ids == {f"inf_{event.request_id.hex}" for event in house.journal.events}
    assert len(ids) == 32
