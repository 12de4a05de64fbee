"""The operators' endpoints about policies and replicas, over the running application."""

from typing import Any

import pytest
from sqlalchemy import text

from control_plane.identity.public_id import public_id
from control_plane.operators.roles import Role
from tests.control_plane.eventually import eventually
from tests.control_plane.operators.conftest import Office
from tests.control_plane.whole_app import new_key


async def rows(office: Office) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await office.ask("GET", "/policies", role=Role.VIEWER)).json()["data"]
    return found


async def ready(office: Office) -> None:
    """Waits for the application's first report."""

    async def has_reported() -> bool:
        return bool(await rows(office))

    await eventually(has_reported)


async def test_an_operator_decides_about_policies_and_it_is_listed_and_audited(office: Office) -> None:
    await ready(office)
    done = await office.ask("PATCH", "/policies", json={"policy": "tabletop", "default": True})
    assert (done.status_code, done.json()["is_announced"]) == (200, True)
    await office.ask("PATCH", "/policies", json={"policy": "tabletop", "restricted": True})
    await office.ask("PATCH", "/policies", json={"policy": "tabletop@1", "enabled": False})
    (row,) = await rows(office)
    assert (row["default"], row["restricted"], row["enabled"]) == ("service", True, False)
    log = (await office.ask("GET", "/audit", params={"target": "tabletop@1"})).json()["data"]
    assert [(line["action"], line["actor"].split()[0]) for line in log] == [("policy.disable", "operator")]


async def test_a_customer_is_entitled_and_pinned(office: Office) -> None:
    await ready(office)
    await new_key(office.settings)
    customer = await _only_customer(office)
    for wish in ({"policy": "tabletop", "entitled": True}, {"policy": "tabletop@1", "pinned": True}):
        done = await office.ask("PATCH", "/policies/customers", json={**wish, "customer": customer})
        assert done.status_code == 200, done.text
    log = (await office.ask("GET", "/audit", params={"customer": customer})).json()["data"]
    assert [line["action"] for line in log[:2]] == ["policy.pin", "policy.entitle"]
    assert log[0]["after"] == {"is_entitled": True, "version": 1}


async def _only_customer(office: Office) -> str:
    async with office.stores.engine.connect() as connection:
        return public_id("cus", await connection.scalar(text("SELECT id FROM customer_accounts")))


async def test_a_replica_is_drained_by_support(office: Office) -> None:
    await ready(office)
    body = {"replica": "127.0.0.1:1", "draining": True}
    assert (await office.ask("PATCH", "/replicas", role=Role.VIEWER, json=body)).status_code == 403
    assert (await office.ask("PATCH", "/replicas", role=Role.SUPPORT, json=body)).status_code == 200

    async def is_seen() -> bool:
        (row,) = (await office.ask("GET", "/replicas")).json()["data"]
        return bool(row["draining"] and row["states"] == "draining")

    await eventually(is_seen)


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/policies", {"policy": "tabletop"}, 422, "enabled"),
        ("/policies", {"policy": "tabletop", "enabled": True, "default": True}, 422, "default"),
        ("/policies", {"policy": "tabletop", "default": False}, 422, "default"),
        ("/policies", {"policy": "a@b", "enabled": False}, 422, "policy"),
        ("/policies", {"policy": "nobody", "default": True}, 422, "policy"),
        ("/policies/customers", {"policy": "tabletop", "customer": "cus_nobody", "entitled": True}, 404, "customer"),
        ("/replicas", {"replica": "127.0.0.1:9", "draining": True}, 422, "address"),
    ],
)
async def test_half_a_wish_is_refused_and_changes_nothing(
    office: Office, path: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    await ready(office)
    before = (await office.ask("GET", "/policies")).json()
    answer = await office.ask("PATCH", path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert (await office.ask("GET", "/policies")).json()["revision"] == before["revision"]
