"""`POST /act` with the real json-numpy: both forms in, the first step out, and statuses where the original says "error"."""

import json
from typing import Any

import json_numpy
import numpy as np
import pytest

from control_plane.triton import TritonCall, TritonError, TritonFault
from control_plane.usage.event import UsageStatus
from tests.control_plane.fakes import STILL, FakeTriton, House, picture
from tests.control_plane.protocols.serving import FRAME

MOTION = (STILL + np.arange(8)[:, None] / 1000).astype(np.float32)
PAYLOAD: dict[str, Any] = {"image": FRAME, "instruction": "pick up red cube", "unnorm_key": "tabletop"}
HEADERS = {"Content-Type": "application/json"}


async def posted(house: House, content: str | bytes, **headers: str) -> Any:
    async with house.client() as client:
        return await client.post("/act", content=content, headers={**HEADERS, **headers})


async def test_a_payload_is_answered_with_the_array_of_the_first_step() -> None:
    house = House(triton=FakeTriton(action=MOTION))
    response = await posted(house, json_numpy.dumps(PAYLOAD))
    action = json_numpy.loads(response.text)
    assert response.status_code == 200
    assert (action.shape, action.dtype) == ((7,), np.float64)
    assert (action == MOTION[0]).all()
    (event,) = house.journal.events
    assert (event.status, event.route) == (UsageStatus.SUCCESS, "/act")
    assert response.headers["x-request-id"] == f"inf_{event.request_id.hex}"
    assert response.headers["ratelimit"].startswith('"minute"')


async def test_an_encoded_payload_is_answered_in_the_encoded_form() -> None:
    house = House(triton=FakeTriton(action=MOTION))
    response = await posted(house, json.dumps({"encoded": json_numpy.dumps(PAYLOAD)}))
    text = response.json()
    assert isinstance(text, str)
    assert (json_numpy.loads(text) == MOTION[0]).all()


async def test_the_tensor_is_that_of_the_same_pixels_by_any_other_door() -> None:
    house = House()
    await posted(house, json_numpy.dumps(PAYLOAD))
    await posted(house, json_numpy.dumps({**PAYLOAD, "image": json_numpy.dumps(FRAME)}))
    async with house.client() as client:
        file = picture(size=(224, 224), form="PNG")
        await client.post("/v1/inference", files={"image": file}, data={"instruction": "go"})
    first, second, other = house.triton.calls
    assert first.inputs == second.inputs
    assert first.inputs[0].data != other.inputs[0].data


async def test_a_refused_motion_is_a_422_and_no_action() -> None:
    house = House(triton=FakeTriton(action=STILL + np.float32(3)))
    for content in (json_numpy.dumps(PAYLOAD), json.dumps({"encoded": json_numpy.dumps(PAYLOAD)})):
        response = await posted(house, content)
        assert response.status_code == 422
        assert response.json()["error"]["code"] == "motion_refused"
        assert response.json()["fallback"]["type"] == "hold"
        assert "__numpy__" not in response.text
    assert [event.status for event in house.journal.events] == [UsageStatus.REFUSED] * 2


async def test_a_model_that_fails_is_a_502_without_its_traceback() -> None:
    async def fail(_call: TritonCall) -> None:
        raise TritonError(TritonFault.FAILED, "Traceback /secret")

    response = await posted(House(triton=FakeTriton(before=fail)), json_numpy.dumps(PAYLOAD))
    assert (response.status_code, response.json()["error"]["code"]) == (502, "policy_failed")
    assert "secret" not in response.text


def array(**changes: Any) -> dict[str, Any]:
    written = json.loads(json_numpy.dumps(FRAME))
    return {**PAYLOAD, "image": {key: value for key, value in {**written, **changes}.items() if value is not ...}}


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ("", 400, "invalid_body", None),
        ("[]", 400, "invalid_body", None),
        ({"instruction": "go"}, 422, "missing_field", "image"),
        ({**PAYLOAD, "instruction": ...}, 422, "missing_field", "instruction"),
        ({**PAYLOAD, "speed": 1}, 422, "unknown_field", "speed"),
        ({**PAYLOAD, "unnorm_key": "bridge"}, 422, "unknown_unnorm_key", "unnorm_key"),
        ({"encoded": "{}", "instruction": "go"}, 422, "invalid_field", "encoded"),
        ({"encoded": json.dumps({"encoded": "{}"})}, 422, "invalid_field", "encoded"),
        ({"encoded": 3}, 422, "invalid_field", "encoded"),
        ({"encoded": "{"}, 400, "invalid_body", None),
        (array(dtype="|O"), 422, "invalid_image", "image"),
        (array(dtype=[["a", "<f4"]]), 422, "invalid_image", "image.dtype"),
        (array(shape=[1, 2, 3]), 422, "invalid_image", "image"),
        (array(shape=[-1, 224, 3]), 422, "invalid_image", "image.shape[0]"),
        (array(__numpy__="%%%"), 422, "invalid_image", "image"),
        (array(shape=...), 422, "missing_field", "image.shape"),
        ({**PAYLOAD, "image": np.zeros((64, 64), np.uint8)}, 422, "invalid_image", "image"),
        ({**PAYLOAD, "image": np.zeros((64, 64, 3), np.int32)}, 422, "invalid_image", "image"),
    ],
)
async def test_what_is_wrong_has_its_status_and_names_its_field(body: Any, status: int, code: str, param: str | None) -> None:
    if isinstance(body, dict):
        body = json_numpy.dumps({key: value for key, value in body.items() if value is not ...})
    response = await posted(House(), body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param), error


async def test_another_content_type_and_a_missing_key_are_refused() -> None:
    assert (await posted(House(), json_numpy.dumps(PAYLOAD), **{"Content-Type": "text/plain"})).status_code == 415
    assert (await posted(House(), json_numpy.dumps(PAYLOAD), Authorization="Bearer wrong")).status_code == 401
