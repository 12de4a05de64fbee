"""Alive, ready, degraded and unavailable are told apart; the error page and the docs name every code."""

import asyncio
import re

import pytest

from control_plane.errors import ERRORS, ApiError
from control_plane.policies.standing import PolicyStanding, Standing
from control_plane.protocols.operations import Readiness, errors_page
from control_plane.triton import Tensor, TritonCall, TritonError, TritonFault
from tests.control_plane.fakes import ROOT, FakeTriton, House


async def away(_call: TritonCall) -> None:
    raise TritonError(TritonFault.UNAVAILABLE, "gone")


async def test_health_needs_nothing() -> None:
    house = House(triton=FakeTriton(before=away), stores={"redis": False, "postgres": False})
    async with house.client() as client:
        response = await client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


async def test_all_up_is_ready() -> None:
    async with House().client() as client:
        response = await client.get("/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "dependencies": {"redis": "up", "postgres": "up", "triton": "up"},
        "policies": {"tabletop": "ready"},
    }


@pytest.mark.parametrize("store", ["redis", "postgres"])
async def test_a_store_that_is_away_only_degrades(store: str) -> None:
    house = House()
    house.stores[store] = False
    async with house.client() as client:
        response = await client.get("/ready")
    assert (response.status_code, response.json()["status"]) == (200, Readiness.DEGRADED)
    assert response.json()["dependencies"][store] == "down"


async def test_no_policy_that_answers_is_unavailable() -> None:
    async with House(triton=FakeTriton(before=away)).client() as client:
        response = await client.get("/ready")
    assert (response.status_code, response.json()["status"]) == (503, Readiness.UNAVAILABLE)
    assert response.json()["policies"] == {"tabletop": "unavailable"}


async def test_a_policy_that_is_switched_off_and_does_not_answer_makes_no_replica_unready() -> None:
    off = Standing(policies={"tabletop": PolicyStanding(policy="tabletop", is_enabled=False)})
    async with House(triton=FakeTriton(before=away), standing=off).client() as client:
        response = await client.get("/ready")
    assert (response.status_code, response.json()["status"], response.json()["policies"]) == (200, Readiness.READY, {})


async def test_a_policy_that_answers_with_nothing_inside_is_not_ready() -> None:
    empty = {"action": Tensor(name="action", datatype="FP32", shape=(1, 8, 7), data=b"")}
    async with House(triton=FakeTriton(answer=empty)).client() as client:
        assert (await client.get("/ready")).status_code == 503


async def test_metrics_are_prometheus_text() -> None:
    async with House().client() as client:
        await client.get("/health")
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'vla_requests_total{outcome="success",policy="unknown",route="/health"} 1.0' in response.text


async def test_the_page_that_errors_link_to_has_a_place_for_each() -> None:
    async with House().client() as client:
        page = (await client.get("/errors")).text
    assert page == errors_page()
    assert set(re.findall(r"<tr id=(\w+)>", page)) == set(ERRORS)


def test_the_docs_say_the_same_of_every_error_as_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\w+) \| (\w+) \|", (ROOT / "docs/ERRORS.md").read_text(), re.M)
    table = [
        (kind.code, str(kind.status), "yes" if kind.is_retryable else "no", kind.robot_action.value) for kind in ERRORS.values()
    ]
    assert rows == table


async def test_the_list_of_models_comes_from_the_manifests() -> None:
    async with House().client() as client:
        response = await client.get("/v1/models")
    (model,) = response.json()["models"]
    assert (model["id"], model["version"], model["status"], model["is_default"]) == ("tabletop", "1", "ready", True)
    assert model["cameras"] == [{"name": "front", "is_required": True, "width": 128, "height": 128, "resize": "resize_naive"}]
    assert model["state"]["units"] == ["rad"] * 7 + ["m"]
    assert (model["action"]["kind"], model["action"]["horizon"], model["robots"]) == ("ee_delta_rotvec", 8, ["franka_panda"])


async def test_the_list_of_models_needs_a_key() -> None:
    async with House().client() as client:
        response = await client.get("/v1/models", headers={"Authorization": "Bearer other"})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "unknown_key")


async def test_a_model_that_does_not_answer_is_listed_as_unavailable() -> None:
    async with House(triton=FakeTriton(before=away)).client() as client:
        (model,) = (await client.get("/v1/models")).json()["models"]
    assert model["status"] == "unavailable"


async def test_many_questions_at_once_are_one_canary() -> None:
    house = House()
    canary = house.canary(fresh_s=60.0)
    await asyncio.gather(*(canary.states() for _ in range(20)))
    assert len(house.triton.calls) == 1


def test_an_unknown_code_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        ApiError("no_such_code")
