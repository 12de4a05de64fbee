"""Every wire gives the same inquiry, and every wrong field is named."""

import base64
import binascii
import json
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from control_plane.errors import ApiError
from control_plane.guarding.fields import BoxFields, RequestSafety, StateFields
from control_plane.inference import parse_json
from control_plane.inference.fields import Fields, picture
from control_plane.inference.observation import Inquiry
from control_plane.inference.parse import parse

PICTURE = b"\xff\xd8\xffpretend"
ENCODED = base64.b64encode(PICTURE).decode()
JSON = "application/json"
MSGPACK = "application/msgpack"
FULL: dict[str, Any] = {
    "instruction": "pick up red cube",
    "model": "tabletop",
    "robot_type": "franka_panda",
    "state": [0.0, -1, 2.5],
    "unnorm_key": "bridge_orig",
    "deadline_ms": 200,
    "session_id": "ep-17",
    "seq": 12,
    "obs_age_ms": 18.5,
}


def refusal(body: bytes, content_type: str = JSON) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(body, content_type)
    return caught.value


def form(fields: dict[str, Any], files: dict[str, bytes]) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://test", data=fields, files=files)
    return request.read(), request.headers["content-type"]


def full_inquiry(**changes: Any) -> Inquiry:
    return Inquiry(**{**FULL, "state": (0.0, -1.0, 2.5), "image": PICTURE, "images": {"wrist": PICTURE}, **changes})


def test_json_with_every_field_gives_the_inquiry() -> None:
    body = json.dumps({**FULL, "image": ENCODED, "images": {"wrist": f"data:image/jpeg;base64,{ENCODED}"}}).encode()
    assert parse(body, "Application/JSON; charset=utf-8") == full_inquiry()


def test_msgpack_with_every_field_gives_the_same_inquiry() -> None:
    body = msgspec.msgpack.encode({**FULL, "image": PICTURE, "images": {"wrist": PICTURE}})
    assert parse(body, MSGPACK) == full_inquiry()


def test_multipart_with_every_field_as_text_gives_the_same_inquiry() -> None:
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in FULL.items()}
    assert parse(*form(fields, {"image": PICTURE, "images.wrist": PICTURE})) == full_inquiry()


def test_multipart_with_the_fields_in_one_request_part_gives_the_same_inquiry() -> None:
    assert parse(*form({"request": json.dumps(FULL)}, {"image": PICTURE, "images.wrist": PICTURE})) == full_inquiry()


def test_the_minimum_is_an_image_and_an_instruction() -> None:
    body = json.dumps({"image": ENCODED, "instruction": "pick up red cube"}).encode()
    assert parse(body, JSON) == Inquiry(image=PICTURE, images={}, instruction="pick up red cube")


def test_null_is_the_same_as_left_out() -> None:
    nothing = dict.fromkeys(Fields.__struct_fields__)
    body = json.dumps({**nothing, "instruction": "go", "image": None, "images": None}).encode()
    assert parse(body, JSON) == Inquiry(image=None, images={}, instruction="go")


LIMITS = {
    "linear_speed_m_per_s": 0.1,
    "workspace": {"low_m": [0, 0, None], "high_m": [1, 1, 1]},
    "required_rules": ["D1", 'a"b'],
    "control_hz": 10,
    "state": {"q": [0.5, 1]},
}


def test_limits_come_alike_on_every_wire() -> None:
    told = RequestSafety(
        linear_speed_m_per_s=0.1,
        workspace=BoxFields(low_m=(0, 0, None), high_m=(1, 1, 1)),
        required_rules=["D1", 'a"b'],
        control_hz=10,
        state=StateFields(q=[0.5, 1]),
    )
    plain = {"instruction": "go", "safety": LIMITS, "executed_index": 3, "network_rtt_ms": 1.5}
    as_json = parse(json.dumps({**plain, "image": ENCODED}).encode(), JSON)
    as_msgpack = parse(msgspec.msgpack.encode({**plain, "image": PICTURE}), "application/msgpack")
    parts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in plain.items()}
    as_form = parse(*form(parts, {"image": PICTURE}))
    assert as_json == as_msgpack == as_form
    assert (as_json.safety, as_json.executed_index, as_json.network_rtt_ms) == (told, 3, 1.5)


def test_a_limit_given_twice_is_refused() -> None:
    body = b'{"instruction": "go", "safety": {"linear_speed_m_per_s": 0.1, "linear_speed_m_per_s": 0.2}}'
    assert refusal(body).kind.code == "invalid_body"


@pytest.mark.parametrize(
    ("field", "text", "code", "param"),
    [
        ("state", "[0, NaN]", "invalid_state", "state[1]"),
        ("state", "[0, Infinity]", "invalid_state", "state[1]"),
        ("state", "[0, 1e999]", "invalid_state", "state[1]"),
        ("obs_age_ms", "NaN", "invalid_field", "obs_age_ms"),
        ("state", "[0, 1e39]", "invalid_state", "state[1]"),
        ("state", "[0, true]", "invalid_state", "state[1]"),
        ("state", '[0, "1"]', "invalid_state", "state[1]"),
        ("state", "[0, null]", "invalid_state", "state[1]"),
        ("state", "[[0]]", "invalid_state", "state[0]"),
        ("state", '{"0": 1}', "invalid_state", "state"),
        ("state", "0.5", "invalid_state", "state"),
        ("deadline_ms", "0", "invalid_field", "deadline_ms"),
        ("deadline_ms", "-1", "invalid_field", "deadline_ms"),
        ("deadline_ms", "1.5", "invalid_field", "deadline_ms"),
        ("deadline_ms", '"200"', "invalid_field", "deadline_ms"),
        ("deadline_ms", "true", "invalid_field", "deadline_ms"),
        ("deadline_ms", "9" * 400, "invalid_field", "deadline_ms"),
        ("seq", "-1", "invalid_field", "seq"),
        ("obs_age_ms", "-0.1", "invalid_field", "obs_age_ms"),
        ("obs_age_ms", "1e999", "invalid_field", "obs_age_ms"),
        ("model", '""', "invalid_field", "model"),
        ("model", f'"{"m" * 129}"', "invalid_field", "model"),
        ("session_id", "7", "invalid_field", "session_id"),
        ("instruction", "7", "invalid_instruction", "instruction"),
        ("instruction", '["go"]', "invalid_instruction", "instruction"),
        ("instruction", "null", "missing_field", "instruction"),
        ("image", "7", "invalid_image", "image"),
        ("image", '"not base64!"', "invalid_image", "image"),
        ("image", '"QUJD\\nQUJD"', "invalid_image", "image"),
        ("image", '"QUI"', "invalid_image", "image"),
        ("image", '"é"', "invalid_image", "image"),
        ("image", '"data:image/png,abc"', "invalid_image", "image"),
        ("safety", "7", "invalid_safety", "safety"),
        ("safety", '{"linear_speed_m_per_s": NaN}', "invalid_safety", "safety.linear_speed_m_per_s"),
        ("safety", '{"linear_speed_m_per_s": "0.1"}', "invalid_safety", "safety.linear_speed_m_per_s"),
        ("safety", '{"linear_speed_m_per_s": -1}', "invalid_safety", "safety.linear_speed_m_per_s"),
        ("safety", '{"linear_speed_m_per_s": true}', "invalid_safety", "safety.linear_speed_m_per_s"),
        ("safety", '{"control_hz": 1e999}', "invalid_safety", "safety.control_hz"),
        (
            "safety",
            '{"workspace": {"low_m": [0, 0, Infinity], "high_m": [1, 1, 1]}}',
            "invalid_safety",
            "safety.workspace.low_m[2]",
        ),
        ("safety", '{"workspace": {"low_m": [0, 0], "high_m": [1, 1, 1]}}', "invalid_safety", "safety.workspace.low_m"),
        ("safety", '{"workspace": {"low_m": [0, 0, 0]}}', "missing_field", "safety.workspace.high_m"),
        ("safety", '{"state": {"q": [0, null]}}', "invalid_safety", "safety.state.q[1]"),
        ("safety", '{"speed": 1}', "unknown_field", "safety.speed"),
        ("safety", '{"required_rules": [1]}', "invalid_safety", "safety.required_rules[0]"),
        ("executed_index", "1.5", "invalid_field", "executed_index"),
        ("network_rtt_ms", "-1", "invalid_field", "network_rtt_ms"),
        ("images", '"QUJD"', "invalid_image", "images"),
        ("images", '{"front": "QUJD", "wrist": 5}', "invalid_image", "images.wrist"),
        ("images", '{"wrist": "*"}', "invalid_image", "images.wrist"),
        ("insturction", '"go"', "unknown_field", "insturction"),
    ],
)
def test_a_wrong_json_field_is_named(field: str, text: str, code: str, param: str | None) -> None:
    others = {name: value for name, value in {"image": ENCODED, "instruction": "go"}.items() if name != field}
    body = json.dumps(others)[:-1].encode() + f', "{field}": {text}}}'.encode()
    error = refusal(body)
    assert (error.kind.code, error.param) == (code, param)
    assert 400 <= error.kind.status < 500


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"nope",
        b'{"instruction": "go"',
        b'{"instruction": "go"} {}',
        b'\xef\xbb\xbf{"instruction": "go"}',
        b'{"instruction": "\xff"}',
        b'{"instruction": "\\ud800"}',
        b'{"instruction": "a\x01b"}',
        '{"instruction": "go"}'.encode("utf-16"),
        b"[" * 200_000,
        b'{"images": ' * 50_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_a_json_object_is_an_invalid_body(body: bytes) -> None:
    assert refusal(body).kind.code in {"invalid_body", "invalid_image"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"instruction": "a", "instruction": "b"}', "instruction"),
        (b'{"instruction": "a", "deadline_ms": 5, "deadline_ms": 5}', "deadline_ms"),
        (b'{"instruction": "a", "images": {"wrist": "", "wrist": ""}}', "wrist"),
        (b'{"instruction": "a", "model": null, "model": null}', "model"),
    ],
)
def test_a_key_given_twice_is_refused(body: bytes, param: str) -> None:
    error = refusal(body)
    assert (error.kind.code, error.param) == ("invalid_body", param)


@pytest.mark.parametrize("text", ['say "stop"', "a\\b", "naïve ☃ 𝄞", 'ends with "', "\u2028"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_escapes_in_an_instruction_are_not_taken_for_repeated_keys(text: str, *, is_ascii: bool) -> None:
    body = json.dumps({"image": ENCODED, "instruction": text}, ensure_ascii=is_ascii).encode()
    assert parse(body, JSON).instruction == text


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"state": [float("nan")]}, "invalid_state", "state[0]"),
        ({"state": [0.0, float("-inf")]}, "invalid_state", "state[1]"),
        ({"state": [True]}, "invalid_state", "state[0]"),
        ({"obs_age_ms": float("nan")}, "invalid_field", "obs_age_ms"),
        ({"obs_age_ms": float("inf")}, "invalid_field", "obs_age_ms"),
        ({"image": ENCODED}, "invalid_image", "image"),
        ({"images": {"front": PICTURE, "wrist": ENCODED}}, "invalid_image", "images.wrist"),
        ({"instruction": b"go"}, "invalid_instruction", "instruction"),
        ({"speed": 1}, "unknown_field", "speed"),
    ],
)
def test_a_wrong_msgpack_field_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    error = refusal(msgspec.msgpack.encode({"image": PICTURE, "instruction": "go", **fields}), MSGPACK)
    assert (error.kind.code, error.param) == (code, param)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80\x00", b"\xdf\xff\xff\xff\xff", b"\x91" * 100_000, b"\x81\xa5imag\xff\xc0"])
def test_what_is_not_a_msgpack_map_is_an_invalid_body(body: bytes) -> None:
    assert refusal(body, MSGPACK).kind.code in {"invalid_body", "missing_field"}


@pytest.mark.parametrize(
    ("fields", "files", "code", "param"),
    [
        ({"instruction": "go", "state": "[1, NaN]"}, ["image"], "invalid_state", "state"),
        ({"instruction": "go", "state": '[1, "x"]'}, ["image"], "invalid_state", "state[1]"),
        ({"instruction": "go", "seq": '"1"'}, ["image"], "invalid_field", "seq"),
        ({"instruction": "go", "deadline_ms": "soon"}, ["image"], "invalid_field", "deadline_ms"),
        ({"instruction": "go", "speed": "1"}, ["image"], "unknown_field", "speed"),
        ({"instruction": "go", "model": ""}, ["image"], "invalid_field", "model"),
        ({"instruction": b"\xff"}, ["image"], "invalid_instruction", "instruction"),
        ({"instruction": "go", "request": '{"instruction": "go"}'}, ["image"], "invalid_body", "instruction"),
        ({"instruction": "go", "request": f'{{"image": "{ENCODED}"}}'}, ["image"], "invalid_body", "image"),
        ({"request": '{"speed": 1}'}, ["image"], "unknown_field", "speed"),
        ({"request": "{"}, ["image"], "invalid_body", None),
        ({}, ["image"], "missing_field", "instruction"),
    ],
)
def test_a_wrong_part_is_named(fields: dict[str, Any], files: list[str], code: str, param: str | None) -> None:
    error = refusal(*form(fields, dict.fromkeys(files, PICTURE)))
    assert (error.kind.code, error.param) == (code, param)


def test_a_part_given_twice_is_refused() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="instruction"\r\n\r\ngo\r\n'
    error = refusal(part * 2 + b"--b--\r\n", "multipart/form-data; boundary=b")
    assert (error.kind.code, error.param) == ("invalid_body", "instruction")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/form-data; boundary=b"),
        (b"--b--\r\n", "multipart/form-data"),
        (b"--b--\r\n", f"multipart/form-data; boundary={'b' * 71}"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
        (b"--b\r\n\r\n--b--", "multipart/form-data; boundary=b"),
        (b"--b\r\nX: y\r\n\r\ngo\r\n--b--", "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\ngo\r\n--b--", "multipart/form-data; boundary=b"),
        (b"--b\r\n" * 1000 + b"--b--", "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nhalf', "multipart/form-data; boundary=b"),
    ],
)
def test_a_broken_multipart_body_is_refused(body: bytes, content_type: str) -> None:
    assert refusal(body, content_type).kind.status in {400, 422}


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "image/jpeg", "json", ";"])
def test_another_content_type_is_refused(content_type: str) -> None:
    assert refusal(b"{}", content_type).kind.code == "unsupported_media_type"


@pytest.mark.parametrize(
    "body",
    [
        b'{"instruction":"a\\"","images":{' + b",".join(b'"%x":""' % n for n in range(100_000)) + b"}}",
        b'{"instruction":"go","state":[' + b"0," * 100_000 + b"1e300]}",
        b'{"instruction":"go","images":' + b"[" * 100_000 + b"}",
    ],
    ids=["cameras", "numbers", "brackets"],
)
def test_a_body_of_many_pieces_is_refused_by_counting(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_json, "_FIELDS", None)  # whoever decodes it fails
    with pytest.raises(ApiError) as caught:
        parse_json.parse_json(body)
    assert caught.value.kind.code == "invalid_body"


def test_a_msgpack_state_is_refused_by_its_length() -> None:
    body = msgspec.msgpack.encode({"instruction": "go", "state": [0.0] * 1025})
    with pytest.raises(ApiError) as caught:
        parse(body, "application/msgpack")
    assert (caught.value.kind.code, caught.value.param) == ("invalid_state", "state")


@given(st.text("ABab01+/=\n -_é", max_size=12))
@example("AAAA=")
@example("QQ==")
@example("QR==")
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_picture_is_taken_exactly_when_it_is_base64_by_the_letter(text: str) -> None:
    try:
        expected = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        with pytest.raises(ApiError, match="not valid base64"):
            picture(text, param="image")
    else:
        assert picture(text, param="image") == expected
