"""SGLang's action API: JSON and msgpack, envelope and raw, what it cannot promise and what it refuses."""

import base64
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest

from control_plane.protocols.numpy_msgpack import decode, encode
from control_plane.usage.event import UsageStatus
from tests.control_plane.fakes import STILL, FakeTriton, House, picture
from tests.control_plane.protocols.serving import FRAME

PATH = "/v1/actions/generations"
SMALL = FRAME[:32, :48]
MOTION = (STILL + np.arange(8)[:, None] / 1000).astype(np.float32)


def request(image: Any = ..., **changes: Any) -> dict[str, Any]:
    """A body as SGLang's documentation has it; `...` is the small frame as lists."""
    images = {"base_0_rgb": SMALL.tolist() if image is ... else image}
    return {"input": {"task": "pick up red cube", "observation": {"images": images}}, **changes}


async def posted(house: House, body: Any, *, packed: bool = False, accept: str = "*/*") -> Any:
    content = encode(body) if packed else msgspec.json.encode(body)
    headers = {"Content-Type": "application/msgpack" if packed else "application/json", "Accept": accept}
    async with house.client() as client:
        return await client.post(PATH, content=content, headers=headers)


async def test_the_documented_json_is_answered_with_the_documented_envelope() -> None:
    house = House(triton=FakeTriton(action=MOTION))
    response = await posted(house, request(model="tabletop", runtime={"prefix_cache": "auto", "cuda_graph": "auto"}))
    body = response.json()
    (data,) = body["data"]
    assert (response.status_code, body["object"], body["model"]) == (200, "action.generation", "tabletop")
    assert data["action"]["values"] == MOTION.tolist()
    assert (data["action"]["type"], data["action"]["dtype"], data["action"]["shape"]) == ("continuous", "float32", [8, 7])
    assert (data["index"], data["input_index"], data["candidate_index"]) == (0, 0, 0)
    assert body["usage"] == {"action_horizon": 8, "action_dim": 7, "prefix_cache_hit": False}
    assert "compute_ms" in body["timings"]
    assert body["safety"]["decision"] == "pass"
    assert body["ignored"] == ["runtime.prefix_cache", "runtime.cuda_graph"]
    (event,) = house.journal.events
    assert (body["id"], event.route) == (f"inf_{event.request_id.hex}", PATH)


async def test_msgpack_carries_arrays_both_ways() -> None:
    house = House(triton=FakeTriton(action=MOTION))
    both = partial(posted, house, packed=True, accept="application/msgpack")
    raw = await both(request(FRAME, runtime={"response_format": "raw", "return_timing": False}))
    listed = await both(request(FRAME, runtime={"output_format": "list"}))
    as_json = await posted(house, request(FRAME), packed=True)
    assert raw.headers["content-type"] == "application/msgpack"
    body = decode(raw.content)
    assert (body["actions"] == MOTION).all()
    assert body["actions"].dtype == np.float32
    assert "timings" not in body
    assert decode(listed.content)["data"][0]["action"]["values"] == MOTION.tolist()
    assert as_json.json()["data"][0]["action"]["values"] == MOTION.tolist()


async def test_every_form_of_the_same_picture_gives_the_same_tensor() -> None:
    house = House()
    png = picture(size=(48, 32), form="PNG")
    pixels = np.asarray(_opened(png))
    text = base64.b64encode(png).decode()
    for image in (
        pixels.tolist(),
        text,
        {"base64": text, "mime_type": "image/png"},
        {"values": pixels.tolist(), "dtype": "uint8"},
    ):
        assert (await posted(house, request(image))).status_code == 200
    for image in (pixels, png, pixels.transpose(2, 0, 1), pixels.astype(np.int64), {"values": pixels}):
        assert (await posted(house, request(image), packed=True)).status_code == 200
    first, *others = house.triton.calls
    assert [call.inputs for call in others] == [first.inputs] * 8


def _opened(png: bytes) -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(png))


async def test_fields_of_our_own_and_fixed_parameters_are_taken() -> None:
    body = request(
        session_id="ep-1",
        seq=4,
        deadline_ms=1500,
        robot_type="franka_panda",
        parameters={"action_horizon": 8, "action_dim": 7, "num_inference_steps": 10},
    )
    body["input"]["observation"]["state"] = {"values": [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785, 0.04], "dtype": "float32"}
    told = (await posted(House(), body)).json()
    assert (told["session_id"], told["seq"], told["ignored"]) == ("ep-1", 4, ["parameters.num_inference_steps"])


async def test_a_refused_motion_is_a_422_and_no_action() -> None:
    house = House(triton=FakeTriton(action=STILL + np.float32(3)))
    response = await posted(house, request())
    assert (response.status_code, response.json()["error"]["code"]) == (422, "motion_refused")
    assert "data" not in response.json()
    assert [event.status for event in house.journal.events] == [UsageStatus.REFUSED]


def without(path: str) -> dict[str, Any]:
    body = request()
    *outer, last = path.split(".")
    where = body
    for name in outer:
        where = where[name]
    del where[last]
    return body


def inside(**changes: Any) -> dict[str, Any]:
    body = request()
    body["input"]["observation"] |= changes
    return body


IMAGE = "input.observation.images.base_0_rgb"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ([], "invalid_body", None),
        (without("input"), "missing_field", "input"),
        (without("input.task"), "missing_field", "input.task"),
        (without("input.observation"), "missing_field", "input.observation"),
        (without("input.observation.images"), "missing_field", "image"),
        (request(speed=1), "unknown_field", "speed"),
        (request(model="none"), "unknown_model", "model"),
        (inside(noise=[[0.0]]), "unknown_field", "input.observation.noise"),
        (inside(images=[]), "invalid_field", "input.observation.images"),
        (inside(images={"elbow": SMALL.tolist()}), "unknown_camera", "input.observation.images.elbow"),
        (inside(state=[0.0] * 7), "invalid_state", "state"),
        (inside(state={"values": 3}), "invalid_field", "input.observation.state"),
        (request([[1, 2], [3]]), "invalid_image", IMAGE),
        (request([["a"]]), "invalid_image", IMAGE),
        (request(7), "invalid_image", IMAGE),
        (request("%%%"), "invalid_image", IMAGE),
        (request((SMALL.astype(int) + 300).tolist()), "invalid_image", IMAGE),
        (request(parameters={"action_horizon": 50}), "invalid_field", "parameters.action_horizon"),
        (request(parameters={"action_dim": 7.0}), "invalid_field", "parameters.action_dim"),
        (request(parameters={"temperature": 1}), "unknown_field", "parameters.temperature"),
        (request(runtime={"output_format": "numpy"}), "invalid_field", "runtime.output_format"),
        (request(runtime={"response_format": 1}), "invalid_field", "runtime.response_format"),
        (request(runtime={"prefix_cache": [1]}), "invalid_field", "runtime.prefix_cache"),
        (request(runtime=[1]), "invalid_field", "runtime"),
        (request(deadline_ms="1"), "invalid_field", "deadline_ms"),
    ],
)
async def test_what_is_wrong_is_named(body: Any, code: str, param: str | None) -> None:
    response = await posted(House(), body)
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param), error
    assert 400 <= response.status_code < 500


async def test_lists_of_a_large_picture_are_refused_before_they_are_decoded() -> None:
    content = b'{"input": {"observation": {"images": {"front": [' + b"0," * 500_000 + b"0]}}}}"
    house = House()
    async with house.client() as client:
        response = await client.post(PATH, content=content[:999_999], headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_body")


async def test_metadata_are_the_policys_in_sglangs_words() -> None:
    async with House().client() as client:
        told = (await client.get("/v1/actions/metadata")).json()
        assert (await client.get("/v1/actions/metadata?model=none")).status_code == 404
        assert (await client.get("/v1/actions/metadata", headers={"Authorization": "Bearer no"})).status_code == 401
    assert (told["object"], told["model"], told["policy_family"]) == ("action.metadata", "tabletop", "tabletop")
    assert told["input"]["image_keys"] == ["front"]
    assert (told["input"]["image_size"], told["input"]["state_dim"]) == ([128, 128], 8)
    assert (told["output"]["action_horizon"], told["output"]["action_dim"]) == (8, 7)
