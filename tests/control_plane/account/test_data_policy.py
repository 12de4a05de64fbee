"""The data policy over HTTP: who may look, who may change it, and what is written down about it."""

from typing import Any

import pytest

from control_plane.audit.reading import Filter, read_lines
from control_plane.identity.data_policy import DataPolicy
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import NewKey, change_key, create_key
from control_plane.operators.roles import Role
from tests.control_plane.account.conftest import Office, asked, customer_of

TRAIN = {"policy": "train", "given_by": "Dana Reyes, contract 2026-118", "keep_days": 30}


async def test_a_customer_opts_in_by_name_and_out_again(office: Office) -> None:
    mine = await customer_of(office)
    before = (await asked(office, mine.key.text, "GET", "/data-policy")).json()
    assert (before["policy"], before["version"], before["consents"]) == ("standard", 1, [])
    opted_in = (await asked(office, mine.key.text, "PUT", "/data-policy", json=TRAIN)).json()
    assert (opted_in["policy"], opted_in["version"], opted_in["keep_days"]) == ("train", 2, 30)
    out = (await asked(office, mine.key.text, "PUT", "/data-policy", json={"policy": "zero"})).json()
    assert (out["policy"], out["version"], out["keep_days"]) == ("zero", 3, 0)
    given = [(consent["policy"], consent["version"]) for consent in out["consents"]]
    assert given == [("zero", 3), ("train", 2)]
    assert out["consents"][1]["given_by"] == TRAIN["given_by"]
    line = (await read_lines(office.stores.engine, Filter(customer_id=mine.customer.id), limit=1))[0]
    assert line.actor == f"key {public_id('key', mine.key.id)}"
    assert (line.before["data_policy"], line.after["data_policy"]) == ("train", "zero")
    assert (line.before["is_zero_retention"], line.after["is_zero_retention"]) == (False, True)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"policy": "train"}, "given_by"),
        ({"policy": "train", "given_by": "\n"}, "given_by"),
        ({"policy": "everything"}, "policy"),
        ({"policy": "zero", "keep_days": 3}, "keep_days"),
        ({"policy": "debug", "keep_days": 0}, "keep_days"),
        ({}, "policy"),
    ],
)
async def test_a_wrong_policy_is_refused_by_name_and_changes_nothing(office: Office, body: dict[str, Any], param: str) -> None:
    mine = await customer_of(office)
    refused = await asked(office, mine.key.text, "PUT", "/data-policy", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, param)
    assert (await asked(office, mine.key.text, "GET", "/data-policy")).json()["version"] == 1


async def test_a_key_that_may_do_less_looks_and_changes_nothing(office: Office) -> None:
    mine = await customer_of(office)
    tests = await create_key(office.stores, mine.customer.id, NewKey(is_test=True))
    quiet = await create_key(office.stores, mine.customer.id, NewKey(data_policy=DataPolicy.ZERO))
    for key in (tests.key, quiet.key):
        assert (await asked(office, key.text, "GET", "/data-policy")).json()["policy"] == "standard"
        refused = await asked(office, key.text, "PUT", "/data-policy", json=TRAIN)
        assert refused.json()["error"]["code"] == "key_restricted"
    made = (await asked(office, quiet.key.text, "POST", "/keys", json={"data_policy": "train"})).json()
    keys = (await asked(office, mine.key.text, "GET", "/keys")).json()["keys"]
    assert {key["id"]: key["data_policy"] for key in keys}[made["id"]] == "zero"
    changed = await change_key(office.stores, quiet.key.id, {"data_policy": None})
    assert changed.key.data_policy is None


@pytest.mark.parametrize("pinned", [DataPolicy.STANDARD, DataPolicy.TRAIN])
async def test_a_key_pinned_to_what_its_customer_has_cannot_raise_the_customer(office: Office, pinned: DataPolicy) -> None:
    mine = await customer_of(office)
    key = await create_key(office.stores, mine.customer.id, NewKey(data_policy=pinned))
    for body in (TRAIN, {"policy": "debug"}, {"policy": "zero"}):
        refused = await asked(office, key.key.text, "PUT", "/data-policy", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_restricted")
    after = (await asked(office, mine.key.text, "GET", "/data-policy")).json()
    assert (after["policy"], after["version"], after["consents"]) == ("standard", 1, [])
    without = await change_key(office.stores, key.key.id, {"data_policy": None})
    assert without.key.data_policy is None
    assert (await asked(office, key.key.text, "PUT", "/data-policy", json=TRAIN)).json()["policy"] == "train"


async def test_operators_see_it_and_only_admins_change_it(office: Office) -> None:
    mine = await customer_of(office)
    path = f"/customers/{public_id('cus', mine.customer.id)}"
    refused = await office.ask("PUT", f"{path}/data-policy", role=Role.SUPPORT, json=TRAIN)
    assert refused.status_code == 403
    assert (await office.ask("PUT", f"{path}/data-policy", json=TRAIN)).json()["policy"] == "train"
    assert (await office.ask("GET", f"{path}/data-policy", role=Role.VIEWER)).json()["version"] == 2
    zero = (await office.ask("PATCH", path, json={"is_zero_retention": True})).json()["customer"]
    assert (zero["data_policy"], zero["is_zero_retention"]) == ("zero", True)
