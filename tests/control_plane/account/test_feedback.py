"""`POST /v1/feedback`: what may be said, and what is refused by name."""

from typing import Any

import pytest
from sqlalchemy import text

from control_plane.customers.data_policy import NewDataPolicy
from control_plane.customers.verbs import set_data_policy
from control_plane.identity.data_policy import DataPolicy
from control_plane.usage.request_id import mint, public_form
from tests.control_plane.account.conftest import Office, asked, customer_of

STEP = [0.01, 0.0, -0.02, 0.0, 0.0, 0.0, 1.0]


async def test_success_failure_and_corrections_are_written_down(office: Office) -> None:
    mine, request = await customer_of(office), public_form(mint())
    bodies: list[dict[str, Any]] = [
        {"outcome": "success", "session_id": "ep-17"},
        {"outcome": "failure", "request_id": request},
        {"outcome": "correction", "request_id": request, "session_id": "ep-17", "action": [STEP, STEP]},
    ]
    for body in bodies:
        given = await asked(office, mine.key.text, "POST", "/feedback", json=body)
        assert given.status_code == 201, given.text
        assert given.json()["id"].startswith("fbk_")
    async with office.stores.engine.connect() as connection:
        rows = (await connection.execute(text("SELECT outcome, session_id, action FROM feedback ORDER BY id"))).all()
    assert [tuple(row) for row in rows] == [
        ("success", "ep-17", None),
        ("failure", None, None),
        ("correction", "ep-17", [STEP, STEP]),
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"outcome": "success"}, "request_id"),
        ({"outcome": "great", "session_id": "x"}, "outcome"),
        ({"outcome": "success", "request_id": "inf_1"}, "request_id"),
        ({"outcome": "success", "request_id": "inf_0000000000007000800000000000000a"}, "request_id"),
        ({"outcome": "correction", "request_id": "LATEST"}, "action"),
        ({"outcome": "success", "session_id": "x", "action": [STEP]}, "action"),
        ({"outcome": "correction", "session_id": "x", "action": [STEP]}, "request_id"),
        ({"outcome": "correction", "request_id": "LATEST", "action": [STEP, STEP[:3]]}, "action"),
        ({"outcome": "correction", "request_id": "LATEST", "action": []}, "action"),
        ({"outcome": "success", "session_id": "x", "mood": 1}, "mood"),
    ],
)
async def test_wrong_feedback_is_refused_by_name_and_not_kept(office: Office, body: dict[str, Any], param: str) -> None:
    mine = await customer_of(office)
    sent = {**body, "request_id": public_form(mint())} if body.get("request_id") == "LATEST" else body
    refused = await asked(office, mine.key.text, "POST", "/feedback", json=sent)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, param)
    async with office.stores.engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM feedback")) == 0


async def test_where_nothing_is_kept_feedback_has_nothing_to_belong_to(office: Office) -> None:
    mine = await customer_of(office)
    await set_data_policy(office.stores, mine.customer.id, NewDataPolicy(policy=DataPolicy.ZERO))
    refused = await asked(office, mine.key.text, "POST", "/feedback", json={"outcome": "success", "session_id": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "feedback_not_kept")
