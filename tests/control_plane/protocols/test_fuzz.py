"""Whatever bytes arrive, the answer is a 200 or a 4xx in our shape: never a 5xx, never silence."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.guarding.fields import BoxFields, RequestSafety
from control_plane.inference.dry_run import CheckFields
from tests.control_plane.fakes import House, picture

CONTENT_TYPES = ["application/json", "application/msgpack", "multipart/form-data; boundary=b", "text/plain", ""]
ENCODED = base64.b64encode(picture(size=(20, 20))).decode()
NAMES = [
    "image",
    "images",
    "instruction",
    "model",
    "robot_type",
    "state",
    "unnorm_key",
    "deadline_ms",
    "session_id",
    "seq",
    "executed_index",
    "network_rtt_ms",
    "safety",
    "extra",
]

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.just(ENCODED) | st.just("tabletop")
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=9), inner, max_size=4))
objects = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), values, max_size=8)
nearly_right = st.fixed_dictionaries(
    {"image": st.just(ENCODED), "instruction": st.text(max_size=300)}, optional={"state": values, "seq": values}
)

limits = st.dictionaries(st.sampled_from([*RequestSafety.__struct_fields__, *BoxFields.__struct_fields__]), values, max_size=5)
told = {"state": values, "seq": values, "session_id": st.text(max_size=5), "executed_index": values, "safety": limits}
with_limits = st.fixed_dictionaries({"image": st.just(ENCODED), "instruction": st.just("go")}, optional=told)
checks = st.fixed_dictionaries(
    {"actions": values | st.lists(st.lists(st.floats(), min_size=7, max_size=7), max_size=4)},
    optional={name: values | limits for name in CheckFields.__struct_fields__ if name not in {"actions", "model", "robot_type"}},
)

many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
few = settings(many, max_examples=50)
quiet_pillow = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


async def judged(content: bytes, content_type: str, path: str = "/v1/inference") -> None:
    house = House()
    async with house.client() as client:
        response = await client.post(path, content=content, headers={"Content-Type": content_type})
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
    if response.status_code != 200:
        error = response.json()["error"]
        assert error["request_id"] == response.headers["x-request-id"]
        assert error["message"]
    endings = len(house.limiter.endings)
    assert len(house.journal.events) == endings <= 1


@quiet_pillow
@many
@given(content=st.binary(max_size=400), content_type=st.sampled_from(CONTENT_TYPES))
async def test_arbitrary_bytes(content: bytes, content_type: str) -> None:
    await judged(content, content_type)


@quiet_pillow
@many
@given(body=objects | nearly_right | with_limits | values)
async def test_arbitrary_json(body: Any) -> None:
    await judged(json.dumps(body).encode(), "application/json")


@quiet_pillow
@many
@given(body=objects, image=st.binary(max_size=60) | st.just(picture(size=(20, 20))))
async def test_arbitrary_msgpack(body: dict[str, Any], image: bytes) -> None:
    try:
        content = msgspec.msgpack.encode({**body, "image": image, "instruction": "go"})
    except (OverflowError, UnicodeEncodeError):  # what this wire cannot carry
        return
    await judged(content, "application/msgpack")


@quiet_pillow
@many
@given(
    parts=st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=5), st.binary(max_size=40)), max_size=5), end=st.booleans()
)
async def test_arbitrary_forms(parts: list[tuple[str, bytes]], *, end: bool) -> None:
    pieces = [
        b'--b\r\nContent-Disposition: form-data; name="' + name.encode("utf-8", "replace") + b'"\r\n\r\n' + data + b"\r\n"
        for name, data in parts
    ]
    await judged(b"".join(pieces) + (b"--b--\r\n" if end else b""), "multipart/form-data; boundary=b")


@quiet_pillow
@many
@given(data=st.data())
async def test_a_good_request_with_some_bytes_changed(data: st.DataObject) -> None:
    body = bytearray(json.dumps({"image": ENCODED, "instruction": "pick up red cube", "state": [0.5] * 8, "seq": 3}).encode())
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    await judged(bytes(body), "application/json")


@few
@given(body=checks | objects | values)
async def test_arbitrary_checks(body: Any) -> None:
    await judged(json.dumps(body).encode(), "application/json", "/v1/safety/check")


@few
@given(body=checks)
async def test_arbitrary_checks_in_msgpack(body: dict[str, Any]) -> None:
    try:
        content = msgspec.msgpack.encode(body)
    except (OverflowError, UnicodeEncodeError):
        return
    await judged(content, "application/msgpack", "/v1/safety/check")
