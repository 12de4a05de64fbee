"""The description of the API is what the API does: fields, errors, routes and examples are held against the code."""

import json
from typing import Any

import msgspec
import pytest
from starlette.routing import Route

from control_plane.errors import ERRORS
from control_plane.inference.answer import InferenceAnswer
from control_plane.inference.dry_run import CheckFields
from control_plane.inference.fields import BinaryFields, TextFields
from control_plane.inference.parse_json import text_fields
from control_plane.policies.routes import Models
from control_plane.protocols import openapi_examples as examples
from control_plane.protocols.openapi import document, golden
from control_plane.protocols.openapi_errors import NOT_FROM_INFERENCE
from control_plane.protocols.operations import ReadyReport
from control_plane.protocols.robots import Robots, SafetyProfile
from control_plane.protocols.safety_check import CheckAnswer
from control_plane.protocols.safety_settings import SettingsChange, SettingsReport
from tests.control_plane.fakes import ROOT, FakeTriton, House, picture

DOCUMENT = document()
SCHEMAS = DOCUMENT["components"]["schemas"]
INFER = DOCUMENT["paths"]["/v1/inference"]["post"]


def test_the_golden_file_is_up_to_date() -> None:
    assert (ROOT / "tests/golden/openapi.json").read_bytes() == golden(), "run `make golden` and look at the difference"


async def test_it_is_served() -> None:
    async with House().client() as client:
        response = await client.get("/openapi.json")
    assert response.json() == json.loads(golden())


async def test_it_lists_every_route_and_no_other() -> None:
    described = {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}
    routes = [route for route in House().app().routes if isinstance(route, Route)]
    served = {
        (route.path, method)
        for route in routes
        for method in route.methods or ()
        if method != "HEAD" and route.path != "/openapi.json" and not route.path.startswith("/admin/")
    }
    assert described == served


@pytest.mark.parametrize(("schema", "fields"), [("InferenceRequest", TextFields), ("InferenceBinaryRequest", BinaryFields)])
def test_it_names_the_fields_that_the_decoder_takes(schema: str, fields: type[msgspec.Struct]) -> None:
    assert set(SCHEMAS[schema]["properties"]) == set(fields.__struct_fields__)


def test_the_form_takes_the_same_fields_and_a_request_part() -> None:
    assert set(SCHEMAS["InferenceForm"]["properties"]) == set(TextFields.__struct_fields__) - {"images"} | {"request"}


def test_every_error_is_declared_with_its_status_and_an_example() -> None:
    declared = {
        code: int(status)
        for status, response in INFER["responses"].items()
        if status != "200"
        for code in response["content"]["application/json"]["examples"]
    }
    elsewhere = NOT_FROM_INFERENCE
    everywhere = {code: kind.status for code, kind in ERRORS.items() if code not in elsewhere}
    assert declared == everywhere


def test_every_reference_leads_somewhere() -> None:
    references = {part.split('"')[0] for part in golden().decode().split("#/components/schemas/")[1:]}
    assert references <= set(SCHEMAS)


def test_the_examples_have_the_types_that_are_sent() -> None:
    for example in (examples.ANSWER, examples.REFUSAL):
        msgspec.convert(example, InferenceAnswer)
        assert set(example["safety"]) == set(SCHEMAS["Safety"]["properties"])
    assert set(examples.REFUSAL["fallback"]) == set(SCHEMAS["Fallback"]["properties"])
    msgspec.convert(examples.MODELS, Models)
    msgspec.convert(examples.READY, ReadyReport)
    msgspec.convert(examples.ROBOTS, Robots)
    msgspec.convert(examples.SAFETY_PROFILE, SafetyProfile)
    msgspec.convert(examples.SETTINGS_CHANGE, SettingsChange)
    msgspec.convert(examples.SETTINGS_REPORT, SettingsReport)
    msgspec.convert(examples.CHECK_REQUEST, CheckFields)
    msgspec.convert(examples.CHECK_ANSWER, CheckAnswer)
    text_fields(json.dumps(examples.REQUEST_FULL).encode())
    assert set(examples.ERROR["error"]) == set(SCHEMAS["Error"]["properties"]["error"]["required"])


async def test_a_real_answer_has_exactly_the_described_fields() -> None:
    leap = FakeTriton()
    leap.action = leap.action + 3
    body: dict[str, Any] = {"image": picture(), "instruction": "pick up red cube"}
    for house in (House(), House(triton=leap)):
        async with house.client() as client:
            packed = msgspec.msgpack.encode(body)
            answer = (await client.post("/v1/inference", content=packed, headers={"Content-Type": "application/msgpack"})).json()
        assert set(SCHEMAS["InferenceAnswer"]["required"]) <= set(answer) <= set(SCHEMAS["InferenceAnswer"]["properties"])
        assert set(answer["safety"]) == set(SCHEMAS["Safety"]["properties"])
        rule = set(SCHEMAS["Safety"]["properties"]["rules"]["items"]["properties"])
        assert all(set(row) <= rule for row in answer["safety"]["rules"])
