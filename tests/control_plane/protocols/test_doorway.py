"""Nothing leaves without a request id, nothing internal leaves at all, and every request is counted and logged once."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest
import redis.exceptions
import sqlalchemy.exc
from starlette.types import Receive, Scope, Send
from tritonclient.utils import InferenceServerException

from control_plane.errors import ERRORS
from control_plane.triton import TritonCall
from control_plane.usage.event import UsageEvent
from tests.control_plane.fakes import KEY, FakeTriton, House, picture

SECRET = "swordfish-5a1c"
BODY = {"image": base64.b64encode(picture()).decode(), "instruction": f"pick up the {SECRET} cube"}
PATH = "/v1/inference"

# Whatever a neighbour might let through: none of it may be seen by a caller.
FOREIGN: list[Exception] = [
    InferenceServerException(f"model at /srv/{SECRET}"),
    redis.exceptions.ConnectionError(f"redis://:{SECRET}@host"),
    redis.exceptions.ResponseError(SECRET),
    sqlalchemy.exc.OperationalError(SECRET, {}, Exception(SECRET)),
    grpc.RpcError(SECRET),
    OSError(SECRET),
    KeyError(SECRET),
    RuntimeError(SECRET),
    RecursionError(SECRET),
]


def raising(failure: Exception) -> Callable[[Any], Awaitable[None]]:
    async def before(_value: Any) -> None:
        raise failure

    return before


def lines(house: House, event: str) -> list[dict[str, Any]]:
    return [entry for line in house.logs().splitlines() if (entry := json.loads(line))["event"] == event]


def count(house: House, name: str, **labels: str) -> float | None:
    return house.metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize("failure", FOREIGN, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("where", ["triton", "journal"])
async def test_no_foreign_exception_leaks(failure: Exception, where: str) -> None:
    house = House(triton=FakeTriton(before=raising(failure) if where == "triton" else None))
    house.journal.before = raising(failure) if where == "journal" else None
    async with house.client() as client:
        response = await client.post(PATH, json=BODY)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert response.json()["error"]["message"] == ERRORS["internal_error"].message
    assert SECRET not in response.text + str(response.headers)
    assert type(failure).__name__ not in response.text
    (logged,) = lines(house, "unmapped_failure")
    assert type(failure).__name__ in logged["exception"]
    assert logged["request_id"] == response.headers["x-request-id"]


async def test_a_failure_of_an_admitted_request_is_recorded_even_when_nobody_mapped_it() -> None:
    house = House(triton=FakeTriton(before=raising(RuntimeError("odd"))))
    async with house.client() as client:
        await client.post(PATH, json=BODY)
    assert [event.error_code for event in house.journal.events] == ["internal_error"]
    assert house.limiter.endings == ["given back"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/inference/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/inference", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("PUT", "/health", 405, "method_not_allowed"),
    ],
)
async def test_the_frameworks_own_errors_have_our_shape(method: str, path: str, status: int, code: str) -> None:
    async with House().client() as client:
        response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
    assert ("allow" in response.headers) is (status == 405)


@pytest.mark.parametrize("path", [PATH, "/act", "/v1/actions/generations"])
async def test_a_request_for_a_motion_goes_past_the_framework_and_is_reported_all_the_same(path: str) -> None:
    house = House()
    app = house.app()

    async def stopped(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("the framework was asked")

    app.middleware_stack = stopped
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
    ):
        response = await client.post(path, content=b"[", headers={"Authorization": KEY, "Content-Type": "application/json"})
        with pytest.raises(AssertionError):
            await client.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_body")
    (line,) = lines(house, "request")
    assert (line["request_id"], line["route"]) == (response.headers["x-request-id"], path)
    assert count(house, "vla_requests_total", route=path, policy="unknown", outcome="invalid_body") == 1


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/errors", "/openapi.json", "/v1/models", "/nowhere"])
async def test_every_answer_carries_a_request_id(path: str) -> None:
    async with House().client() as client:
        ids = {(await client.get(path)).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(id_.startswith("inf_") for id_ in ids)


async def test_requests_are_counted_by_route_policy_and_outcome() -> None:
    house = House()
    async with house.client() as client:
        await client.post(PATH, json=BODY)
        await client.post(PATH, json={**BODY, "model": "made-up-by-the-caller"})
        await client.post(PATH, json={**BODY, "instruction": ""})
        await client.get("/made/up/by/the/caller")
    assert count(house, "vla_requests_total", route=PATH, policy="tabletop", outcome="success") == 1
    assert count(house, "vla_requests_total", route=PATH, policy="unknown", outcome="unknown_model") == 1
    assert count(house, "vla_requests_total", route="other", policy="unknown", outcome="not_found") == 1
    assert count(house, "vla_request_duration_seconds_count", route=PATH, policy="tabletop") == 1
    assert count(house, "vla_stage_duration_seconds_count", stage="compute") == 1
    assert count(house, "vla_guard_decisions_total", policy="tabletop", decision="pass") == 1
    assert count(house, "vla_in_flight_requests") == 0


async def test_no_label_can_be_chosen_by_a_caller() -> None:
    house = House()
    async with house.client() as client:
        for path in ("/a", "/b/c", "/v1/inference/x"):
            await client.get(path)
        await client.post(PATH, json={**BODY, "model": "x", "robot_type": "y"})
    text = (await _exposition(house)).decode()
    assert not {'"/a"', '"/b/c"', '"x"', '"y"'} & set(text.replace("=", " ").replace(",", " ").split())


async def _exposition(house: House) -> bytes:
    async with house.client() as client:
        return (await client.get("/metrics")).content


async def test_one_line_per_request_says_what_happened() -> None:
    house = House()
    async with house.client() as client:
        response = await client.post(PATH, json=BODY)
    (line,) = lines(house, "request")
    assert line["request_id"] == response.headers["x-request-id"]
    assert (line["route"], line["method"], line["status"], line["outcome"]) == (PATH, "POST", 200, "success")
    assert (line["policy"], line["customer_id"], line["level"]) == ("tabletop", "00000000-0000-0000-0000-000000000001", "info")
    assert line["duration_ms"] > 0


async def test_neither_key_nor_picture_nor_instruction_is_logged() -> None:
    async def fails(_event: UsageEvent) -> None:
        raise RuntimeError("odd")

    async def broken(_call: TritonCall) -> None:
        raise RuntimeError("vla_live_abcd1234567890abcdefghij was in a message")

    for house in (House(), House(triton=FakeTriton(before=broken)), House()):
        house.journal.before = fails if house.triton.before is None else None
        async with house.client() as client:
            await client.post(PATH, json=BODY)
            await client.post(PATH, json={**BODY, "image": "broken" * 9})
            await client.post(PATH, json=BODY, headers={"Authorization": "Bearer vla_live_zzzz1234567890abcdefghij"})
        written = house.logs()
        assert written
        for secret in (SECRET, BODY["image"], BODY["image"][100:140], "1234567890abcdefghij", "a-key-that-the-fake-knows"):
            assert secret not in written
