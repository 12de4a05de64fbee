"""Keys over HTTP: a customer manages their own, none gets stronger by asking, and another's does not exist."""

from typing import Any

import pytest

from control_plane.audit.reading import Filter, read_lines
from control_plane.identity.api_key import is_well_formed
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import NewKey, create_key
from control_plane.operators.roles import Role
from tests.control_plane.account.conftest import Office, asked, customer_of


async def test_a_customer_makes_lists_rotates_and_ends_keys(office: Office) -> None:
    mine = await customer_of(office)
    made = await asked(
        office, mine.key.text, "POST", "/keys", json={"name": "arm 3", "per_minute": 5, "robots": ["franka_panda"]}
    )
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    new = made.json()
    assert is_well_formed(new["api_key"])
    listed = (await asked(office, mine.key.text, "GET", "/keys")).json()["keys"]
    assert [(key["name"], key["robots"], key["is_this"]) for key in listed] == [
        ("default", None, True),
        ("arm 3", ["franka_panda"], False),
    ]
    rotated = (await asked(office, mine.key.text, "POST", f"/keys/{new['id']}/rotate", json={"overlap_hours": 1})).json()
    assert rotated["new"]["name"] == "arm 3"
    assert rotated["old"]["expires_at"] is not None
    assert (await asked(office, rotated["new"]["api_key"], "GET", "/models")).status_code == 200
    ended = await asked(office, mine.key.text, "DELETE", f"/keys/{new['id']}")
    assert (ended.status_code, ended.json()["is_announced"]) == (200, True)
    assert (await asked(office, new["api_key"], "GET", "/keys")).json()["error"]["code"] == "revoked_key"
    texts = (new["api_key"], rotated["new"]["api_key"], mine.key.text)
    assert all(text not in str(listed) for text in texts)
    lines = await read_lines(office.stores.engine, Filter(target=new["id"]), limit=10)
    assert {line.actor for line in lines} == {f"key {public_id('key', mine.key.id)}"}
    assert all(line.request_id is not None for line in lines)


async def test_another_customers_key_does_not_exist(office: Office) -> None:
    mine, other = await customer_of(office), await customer_of(office)
    there, nowhere = public_id("key", other.key.id), public_id("key", other.customer.id)
    for id_ in (there, nowhere, "key_nonsense", "cus_x"):
        for method, path in (("DELETE", f"/keys/{id_}"), ("POST", f"/keys/{id_}/rotate")):
            response = await asked(office, mine.key.text, method, path, json={})
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    assert (await asked(office, other.key.text, "GET", "/keys")).status_code == 200


@pytest.mark.parametrize("weak", [NewKey(is_test=True), NewKey(robots=("franka_panda",)), NewKey(policies=("tabletop",))])
async def test_a_test_key_or_a_scoped_one_makes_changes_and_ends_nothing_and_sees_itself(office: Office, weak: NewKey) -> None:
    mine = await customer_of(office)
    key = (await create_key(office.stores, mine.customer.id, weak)).key
    itself = public_id("key", key.id)
    for method, path in (("POST", "/keys"), ("POST", f"/keys/{itself}/rotate"), ("DELETE", f"/keys/{itself}")):
        response = await asked(office, key.text, method, path, json={})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "key_restricted"), path
    assert [told["id"] for told in (await asked(office, key.text, "GET", "/keys")).json()["keys"]] == [itself]


async def test_a_bounded_key_passes_its_bounds_on(office: Office) -> None:
    mine = await customer_of(office)
    bounds = NewKey(per_minute=7, expires_in_days=10, allowed_ips=("127.0.0.0/8",))
    key = (await create_key(office.stores, mine.customer.id, bounds)).key
    wishes: list[dict[str, Any]] = [{}, {"per_minute": 100, "expires_in_days": 3000, "allowed_ips": ["127.0.0.1"]}]
    for wish in wishes:
        made = await asked(office, key.text, "POST", "/keys", json=wish)
        assert made.status_code == 201, made.text
    listed = {told["id"]: told for told in (await asked(office, mine.key.text, "GET", "/keys")).json()["keys"]}
    new = [told for id_, told in listed.items() if id_ not in {public_id("key", key.id), public_id("key", mine.key.id)}]
    assert [told["per_minute"] for told in new] == [7, 7]
    assert all(told["expires_at"] <= listed[public_id("key", key.id)]["expires_at"] for told in new)
    assert {tuple(told["allowed_ips"]) for told in new} == {("127.0.0.0/8",), ("127.0.0.1/32",)}
    beyond = await asked(office, key.text, "POST", "/keys", json={"allowed_ips": ["10.0.0.0/8"]})
    assert (beyond.status_code, beyond.json()["error"]["param"]) == (403, "allowed_ips")
    rotated = await asked(office, key.text, "POST", f"/keys/{public_id('key', mine.key.id)}/rotate", json={})
    assert rotated.json()["error"]["code"] == "key_restricted"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "a\nb"}, "key_name"),
        ({"per_minute": 0}, "per_minute"),
        ({"per_minute": "5"}, "per_minute"),
        ({"colour": "red"}, "colour"),
        ({"allowed_ips": ["nowhere"]}, "allowed_ips"),
        ({"expires_in_days": 4000}, "expires_in_days"),
    ],
)
async def test_a_wrong_wish_is_refused_by_name(office: Office, body: dict[str, Any], param: str) -> None:
    mine = await customer_of(office)
    response = await asked(office, mine.key.text, "POST", "/keys", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (422, param)
    assert len((await asked(office, mine.key.text, "GET", "/keys")).json()["keys"]) == 1


async def test_support_manages_any_customers_keys_and_a_viewer_looks(office: Office) -> None:
    mine = await customer_of(office)
    of_customer = f"/customers/{public_id('cus', mine.customer.id)}/keys"
    made = (await office.ask("POST", of_customer, role=Role.SUPPORT, json={"name": "spare", "is_test": True})).json()
    assert made["api_key"].startswith("vla_test_")
    rotated = await office.ask("POST", f"/keys/{made['id']}/rotate", role=Role.SUPPORT, json={"overlap_hours": 0})
    assert rotated.status_code == 200
    assert (await office.ask("DELETE", f"/keys/{public_id('key', mine.key.id)}", role=Role.SUPPORT)).status_code == 200
    listed = (await office.ask("GET", of_customer, role=Role.VIEWER)).json()["keys"]
    assert [key["revoked_at"] is not None for key in listed] == [True, False, False]
    lines = await read_lines(office.stores.engine, Filter(target=made["id"], action="key.create"), limit=1)
    assert lines[0].actor.startswith("operator opr_")
    assert (await office.ask("DELETE", "/keys/key_nonsense")).status_code == 404
    nobody = await office.ask("POST", "/customers/cus_00000000000000000000000000000000/keys", json={})
    assert nobody.status_code == 404
