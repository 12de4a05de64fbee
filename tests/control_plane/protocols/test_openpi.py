"""The openpi door, with openpi's own client, unmodified, over a real socket."""

import asyncio
import io
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from openpi_client import action_chunk_broker
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from PIL import Image
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from control_plane.errors import ERRORS, ApiError
from control_plane.identity.principal import Principal
from control_plane.triton import TritonCall, TritonError, TritonFault
from control_plane.usage.event import UsageStatus
from tests.control_plane.fakes import KEY, STILL, FakeAuthenticator, FakeTriton, House, picture
from tests.control_plane.protocols.serving import FRAME, HEADERS, OBSERVATION, opened, openpi_client, packed, served, unpacked

# What openpi's client does, and cannot be changed here: websockets 17 wants a context manager.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")


class EitherScheme(FakeAuthenticator):
    """As the real one, which openpi's client reaches with `Api-Key`; `refusal` is what happens to the key later."""

    refusal: str | None = None

    async def authenticate(self, authorization: str | None) -> Principal:
        if self.refusal is not None:
            raise ApiError(self.refusal)
        return await super().authenticate(authorization and authorization.replace("Api-Key ", "Bearer "))


def house(**changes: Any) -> House:
    return House(authenticator=EitherScheme(), **changes)


@pytest.mark.parametrize("path", ["", "/openpi/policy"])
async def test_the_unmodified_client_gets_metadata_before_its_first_observation_and_then_actions(path: str) -> None:
    there = house(triton=FakeTriton(action=STILL + np.float32(0.001)))
    async with served(there.app()) as address, openpi_client(address, path=path) as infer:
        told = await infer({})
        first, second = [await infer(OBSERVATION) for _ in range(2)]
    assert (told["server"], told["model"], told["model_version"]) == ("vlaapi", "tabletop", "1")
    assert told["action"]["kind"] == "ee_delta_rotvec"
    assert (told["action"]["horizon"], told["action"]["control_hz"], len(told["action"]["names"])) == (8, 10.0, 7)
    assert told["cameras"] == [{"name": "front", "is_required": True, "width": 128, "height": 128}]
    assert told["required"] == ["prompt", "images/front"]
    assert (first["actions"].shape, first["actions"].dtype) == ((8, 7), np.float32)
    assert (first["actions"] == STILL + np.float32(0.001)).all()
    assert set(first["server_timing"]) == {"infer_ms"}
    assert set(second["server_timing"]) == {"infer_ms", "prev_total_ms"}
    assert first["safety"]["decision"] == "pass"
    events = there.journal.events
    assert [first["request_id"], second["request_id"]] == [f"inf_{event.request_id.hex}" for event in events]
    assert {(event.status, event.route) for event in events} == {(UsageStatus.SUCCESS, path or "/")}
    assert there.limiter.endings == ["settled", "settled"]


async def test_its_chunk_broker_walks_through_the_chunk() -> None:
    motion = (STILL + np.arange(8)[:, None] / 1000).astype(np.float32)
    async with served(house(triton=FakeTriton(action=motion)).app()) as address:

        def walk() -> list[Any]:
            client = WebsocketClientPolicy(f"ws://{address}", None, KEY.partition(" ")[2])
            broker = action_chunk_broker.ActionChunkBroker(client, action_horizon=8)
            steps = [broker.infer(OBSERVATION)["actions"] for _ in range(8)]
            client._ws.close()
            return steps

        steps = await asyncio.to_thread(walk)
    assert (np.stack(steps) == motion).all()


async def test_a_wrong_key_is_refused_at_the_handshake_with_its_status_and_nothing_is_received() -> None:
    async with served(house().app()) as address:
        with pytest.raises(InvalidStatus) as caught:
            async with openpi_client(address, key="wrong"):
                pass
        with pytest.raises(InvalidStatus) as keyless:
            async with opened(address, additional_headers={}):
                pass
    for refused, code in ((caught.value.response, "unknown_key"), (keyless.value.response, "missing_key")):
        assert refused.status_code == 401
        error = json.loads(refused.body or b"")["error"]
        assert (error["code"], error["robot_action"]) == (code, "stop")
        assert refused.headers["x-request-id"] == error["request_id"]


async def test_a_key_that_is_revoked_ends_an_open_socket_at_its_next_message() -> None:
    there = house()
    async with served(there.app()) as address, opened(address) as socket:
        await socket.send(packed())
        unpacked(await socket.recv())
        there.authenticator.refusal = "revoked_key"  # type: ignore[attr-defined]
        await socket.send(packed())
        error = json.loads(await socket.recv())["error"]
        with pytest.raises(ConnectionClosedError) as closed:
            await socket.recv()
    assert (error["code"], error["robot_action"]) == ("revoked_key", "stop")
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "revoked_key")
    assert len(there.journal.events) == 1


async def test_a_motion_that_the_guard_refuses_makes_the_unmodified_client_raise_and_the_socket_lives_on() -> None:
    there = house(triton=FakeTriton(action=STILL + np.float32(3)))
    async with served(there.app()) as address, openpi_client(address) as infer:
        with pytest.raises(RuntimeError) as raised:
            await infer(OBSERVATION)
        there.triton.action = STILL
        after = await infer(OBSERVATION)
    told = json.loads(str(raised.value).partition("\n")[2])
    assert (told["error"]["code"], told["error"]["robot_action"]) == ("motion_refused", "hold")
    assert told["fallback"]["type"] == "hold"
    assert "actions" not in told
    assert (after["actions"] == STILL).all()
    assert [event.status for event in there.journal.events] == [UsageStatus.REFUSED, UsageStatus.SUCCESS]


FAULTS = [
    (TritonFault.FAILED, "policy_failed"),
    (TritonFault.QUEUE_FULL, "overloaded"),
    (TritonFault.TOO_LATE, "deadline_exceeded"),
    (TritonFault.UNAVAILABLE, "policy_unavailable"),
    (None, "internal_error"),
]


async def test_what_fails_inside_is_told_by_its_code_and_nothing_leaks() -> None:
    fault: TritonFault | None = None

    async def fail(_call: TritonCall) -> None:
        raise RuntimeError("/secret/path") if fault is None else TritonError(fault, "Traceback /secret/path model.py")

    there = house(triton=FakeTriton(before=fail))
    texts = []
    async with served(there.app()) as address, opened(address) as socket:
        for fault, _code in FAULTS:  # noqa: B007 -- `fail` reads it
            await socket.send(packed())
            texts.append(str(await socket.recv()))
        there.triton.before = None
        await socket.send(packed())
        unpacked(await socket.recv())
    errors = [json.loads(text)["error"] for text in texts]
    assert [error["code"] for error in errors] == [code for _, code in FAULTS]
    assert all(error["is_retryable"] == ERRORS[error["code"]].is_retryable for error in errors)
    assert not any("secret" in text or "Traceback" in text for text in texts)


NO_PICTURE = {"observation/image": ...}

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": ...}, "missing_field", "prompt"),
    ({"prompt": 7}, "invalid_instruction", "prompt"),
    ({"prompt": " "}, "invalid_instruction", "prompt"),
    ({"task": "the same twice"}, "invalid_instruction", "task"),
    (NO_PICTURE, "missing_field", "image"),
    ({"observation/image": FRAME[0]}, "unknown_field", "observation/image"),
    ({"observation/image": FRAME.astype(np.int16)}, "invalid_image", "observation/image"),
    ({"observation/image": FRAME[:8]}, "invalid_image", "observation/image"),
    ({"observation/image": FRAME[:, :, :2]}, "invalid_image", "observation/image"),
    ({"observation/image": FRAME.astype(np.float32)}, "invalid_image", "observation/image"),
    ({"observation/image": np.full((32, 32, 3), np.nan)}, "invalid_image", "observation/image"),
    ({"observation/image": b"no picture"}, "invalid_image", "observation/image"),
    ({"images": {"front": FRAME}}, "invalid_field", "images/front"),
    ({"observation/elbow_image": FRAME}, "unknown_camera", "observation/elbow_image"),
    ({"state": [0.0] * 7}, "invalid_state", "state"),
    ({"state": np.full(8, np.nan)}, "invalid_state", "state[0]"),
    ({"state": np.zeros((2, 4))}, "invalid_state", "state"),
    ({"state": "0"}, "invalid_state", "state"),
    ({"observation/state": [0.0] * 8, "state": [0.0] * 8}, "invalid_state", "observation/state"),
    ({"observation/joint_position": np.zeros(7)}, "missing_field", "gripper_position"),
    (
        {"observation/joint_position": np.zeros(7), "observation/gripper_position": np.zeros(1)},
        "invalid_state",
        "observation/gripper_position",
    ),
    ({"session_id": 7}, "invalid_field", "session_id"),
    ({"deadline_ms": True}, "invalid_field", "deadline_ms"),
    ({"model": "none"}, "unknown_model", "model"),
    ({"robot_type": "teapot"}, "unknown_robot", "robot_type"),
    ({"speed": 3}, "unknown_field", "speed"),
    ({"safety": {"linear_speed_m_per_s": "fast"}}, "invalid_safety", "safety.linear_speed_m_per_s"),
]


async def test_what_is_wrong_is_named_as_it_was_sent_and_the_socket_lives_on() -> None:
    found = []
    async with served(house().app()) as address, opened(address) as socket:
        for changes, _, _ in WRONG:
            await socket.send(packed(**changes))
            error = json.loads(await socket.recv())["error"]
            found.append((error["code"], error["param"]))
        await socket.send(packed())
        unpacked(await socket.recv())
    assert found == [(code, param) for _, code, param in WRONG]


async def test_what_is_no_observation_at_all_is_refused_and_the_socket_lives_on() -> None:
    async with served(house().app()) as address, opened(address) as socket:
        for message in (b"", b"\xc1", b"\x90", "text", b"\xdd\xff\xff\xff\xff"):
            await socket.send(message)
            assert json.loads(await socket.recv())["error"]["code"] == "invalid_body"
        await socket.send(packed())
        unpacked(await socket.recv())


async def test_a_message_over_the_limit_closes_the_socket_with_1009() -> None:
    async with served(house().app(), max_bytes=200_000) as address, opened(address) as socket:
        with suppress(ConnectionClosedError):
            await socket.send(packed(**{"observation/image": np.zeros((400, 400, 3), np.uint8)}))
        with pytest.raises(ConnectionClosedError) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_server_without_that_bound_still_refuses_by_the_code() -> None:
    async with served(house().app(), max_bytes=5_000_000) as address, opened(address) as socket:
        await socket.send(packed(**{"observation/image": np.zeros((700, 700, 3), np.uint8)}))
        assert json.loads(await socket.recv())["error"]["code"] == "body_too_large"


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURES: dict[str, Any] = {
    "channels last": FRAME,
    "channels first": np.ascontiguousarray(FRAME.transpose(2, 0, 1)),
    "channels first, a view": FRAME.transpose(2, 0, 1),
    "a file": png(FRAME),
}


async def test_raw_pixels_give_the_tensor_of_a_lossless_file() -> None:
    there = house()
    async with there.client() as client:
        sent = await client.post("/v1/inference", files={"image": png(FRAME)}, data={"instruction": "pick up red cube"})
        assert sent.status_code == 200
    async with served(there.app()) as address, opened(address) as socket:
        for image in PICTURES.values():
            await socket.send(packed(**{"observation/image": image}))
            unpacked(await socket.recv())
    file, *raw = there.triton.calls
    assert [call.inputs for call in raw] == [file.inputs] * len(PICTURES)


async def test_floats_between_0_and_1_become_bytes_as_openpis_own_tools_make_them() -> None:
    from openpi_client.image_tools import convert_to_uint8

    floats = np.random.default_rng(1).random((64, 64, 3), dtype=np.float32)
    there = house()
    async with served(there.app()) as address, opened(address) as socket:
        for image in (floats, convert_to_uint8(floats)):
            await socket.send(packed(**{"observation/image": image}))
            unpacked(await socket.recv())
    first, second = there.triton.calls
    assert first.inputs == second.inputs


async def test_fields_of_our_own_travel_beside_the_observation() -> None:
    there = house()
    own = {"session_id": "ep-17", "seq": np.int64(12), "deadline_ms": 1500, "model": "tabletop", "robot_type": "franka_panda"}
    async with served(there.app()) as address, opened(address) as socket:
        await socket.send(packed(**own, unnorm_key="tabletop", state=[0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785, 0.04]))
        answer = unpacked(await socket.recv())
    assert (answer["session_id"], answer["seq"], answer["model"]) == ("ep-17", 12, "tabletop")
    (call,) = there.triton.calls
    assert call.timeout_s < 1.5


async def test_the_address_may_choose_the_model_for_clients_that_cannot() -> None:
    async with served(house().app()) as address:
        async with openpi_client(address, path="/?model=tabletop&robot_type=franka_panda") as infer:
            assert (await infer(OBSERVATION))["model"] == "tabletop"
        for query, code in (("model=none", "unknown_model"), ("speed=3", "invalid_field")):
            with pytest.raises(InvalidStatus) as refused:
                async with openpi_client(address, path=f"/?{query}"):
                    pass
            assert json.loads(refused.value.response.body or b"")["error"]["code"] == code


async def test_pictures_that_the_policy_has_no_use_for_are_left_out_and_said_so() -> None:
    async with served(house().app()) as address, opened(address) as socket:
        await socket.send(packed(**{"observation/wrist_image": FRAME}))
        assert unpacked(await socket.recv())["ignored"] == ["observation/wrist_image"]


async def test_healthz_answers_as_openpis_server_does() -> None:
    async with house().client() as client:
        assert (await client.get("/healthz")).text == "OK\n"


async def test_what_nothing_is_served_at_is_no_socket() -> None:
    async with served(house().app()) as address:
        with pytest.raises(InvalidStatus) as refused:
            async with opened(address, "/elsewhere"):
                pass
    assert refused.value.response.status_code == 403


async def test_a_customers_limits_hold_on_a_socket_and_are_told_by_their_code() -> None:
    there = house()
    async with served(there.app()) as address, opened(address) as socket:
        there.limiter.refusal = ApiError("minute_limit", retry_after_ms=1234)
        await socket.send(packed())
        error = json.loads(await socket.recv())["error"]
    assert (error["code"], error["retry_after_ms"]) == ("minute_limit", 1234)
    assert there.journal.events == []


async def test_headers_and_picture_of_a_client_are_in_no_log() -> None:
    there = house()
    async with served(there.app()) as address, opened(address, additional_headers=HEADERS) as socket:
        await socket.send(packed(**{"observation/image": picture()}))
        unpacked(await socket.recv())
    assert KEY.partition(" ")[2] not in there.logs()
    assert '"route":"/openpi/policy"' in there.logs()
