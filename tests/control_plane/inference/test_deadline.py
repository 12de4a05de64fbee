"""Whose deadline holds, what is late, and by how much that is said to be."""

import asyncio
import dataclasses
from typing import Any

import pytest

from control_plane.errors import ApiError
from control_plane.triton import TritonCall, TritonError, TritonFault
from control_plane.usage.event import UsageStatus
from tests.control_plane.fakes import FakeTriton, House
from tests.control_plane.inference.test_pipeline import call, refusal


async def given_to_triton(house: House, **asked: Any) -> float:
    await house.pipeline().answer(call(**asked))
    return house.triton.calls[-1].timeout_s


async def test_a_request_without_a_deadline_has_the_customers_and_without_that_the_services() -> None:
    house = House()
    assert 1.5 < await given_to_triton(house) < 2
    house.authenticator.holder = dataclasses.replace(house.authenticator.holder, deadline_ms=60_000)
    assert 55 < await given_to_triton(house) < 60
    assert 25 < await given_to_triton(house, deadline_ms=30_000) < 30


async def test_work_that_is_late_before_the_model_says_by_how_much() -> None:
    house, asked = House(), call(deadline_ms=200)
    asked.trace.started_s -= 1.0
    late = await refusal(house, asked)
    assert late.param == "deadline_ms"
    assert late.late_by_ms is not None
    assert 800 <= late.late_by_ms < 60_000
    assert house.triton.calls == []


async def test_what_triton_finds_too_late_is_said_to_be_so_too() -> None:
    async def expire(_call: TritonCall) -> None:
        raise TritonError(TritonFault.TOO_LATE, "Request timeout expired")

    late = await refusal(House(triton=FakeTriton(before=expire)), call(deadline_ms=30_000))
    assert (late.kind.code, late.param, late.late_by_ms) == ("deadline_exceeded", "deadline_ms", 0)


async def test_a_late_motion_under_the_customers_own_shorter_deadline_buys_no_free_work() -> None:
    async def dawdles(_call: TritonCall) -> None:
        await asyncio.sleep(0.1)

    house = House(triton=FakeTriton(before=dawdles))
    house.authenticator.holder = dataclasses.replace(house.authenticator.holder, deadline_ms=100)
    with pytest.raises(ApiError) as late:
        await house.pipeline().answer(call())
    assert (late.value.kind.code, late.value.param) == ("deadline_exceeded", None)
    assert late.value.late_by_ms is not None
    assert [event.status for event in house.journal.events] == [UsageStatus.TIMEOUT]
    assert house.limiter.endings == ["settled"]


async def test_the_answer_holds_late_by_ms_only_where_something_was_late() -> None:
    house = House()
    body = {"image": "", "instruction": "go", "deadline_ms": 1}
    async with house.client() as client:
        other = (await client.post("/v1/inference", json=body)).json()["error"]
    assert other["code"] in {"invalid_image", "deadline_exceeded"}
    assert ("late_by_ms" in other) is (other["code"] == "deadline_exceeded")
