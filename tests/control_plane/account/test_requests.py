"""The history of requests: own rows only, in pages, filtered; content only where it is kept and may be seen."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from control_plane.customers.verbs import change_customer
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import NewKey, create_key
from control_plane.operators.roles import Role
from control_plane.usage.event import UsageStatus
from control_plane.usage.request_id import public_form
from tests.control_plane.account.conftest import Office, asked, customer_of, event_of, recorded


async def test_one_request_is_told_with_what_became_of_it(office: Office) -> None:
    mine = await customer_of(office)
    event = event_of(mine)
    await recorded(office, [event])
    report = (await asked(office, mine.key.text, "GET", f"/requests/{public_form(event.request_id)}")).json()
    told = {name: report[name] for name in ("status", "instruction", "session_id", "is_billable", "has_content")}
    assert told == {
        "status": "success",
        "instruction": event.instruction,
        "session_id": "ep-17",
        "is_billable": True,
        "has_content": True,
    }
    assert np.allclose(report["action"], event.action or ())
    assert report["key"] == public_id("key", mine.key.id)


async def test_another_customers_request_does_not_exist(office: Office) -> None:
    mine, other = await customer_of(office), await customer_of(office)
    event = event_of(other)
    await recorded(office, [event])
    ids = (public_form(event.request_id), f"inf_{event.customer_id.hex}", "inf_x", "inf_00000000000000000000000000000000")
    for id_ in ids:
        response = await asked(office, mine.key.text, "GET", f"/requests/{id_}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found"), id_
    assert (await asked(office, mine.key.text, "GET", "/requests")).json() == {"data": [], "next_cursor": None}


async def test_pages_and_filters(office: Office) -> None:
    mine = await customer_of(office)
    events = [event_of(mine, session_id=f"ep-{n % 2}") for n in range(5)]
    refused = event_of(mine, status=UsageStatus.REFUSED)
    await recorded(office, [*events, refused])

    async def ids(query: str) -> list[str]:
        page = (await asked(office, mine.key.text, "GET", f"/requests?{query}")).json()
        return [row["id"] for row in page["data"]]

    first = (await asked(office, mine.key.text, "GET", "/requests?limit=4")).json()
    rest = await ids(f"limit=4&cursor={first['next_cursor']}")
    whole = sorted((public_form(event.request_id) for event in [*events, refused]), reverse=True)
    assert [row["id"] for row in first["data"]] + rest == whole
    assert await ids("status=refused") == [public_form(refused.request_id)]
    assert len(await ids("session_id=ep-0")) == 3
    assert await ids("model=other") == []
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert await ids(f"since={tomorrow}") == []
    assert len(await ids(f"until={tomorrow}")) == 6
    assert len(await ids(f"key={public_id('key', mine.key.id)}")) == 6


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("status=great", "status"),
        ("until=0.5", "until"),
        ("since=yesterday", "since"),
        ("since=2026-11-27T00:00:00", "since"),
        ("cursor=inf_x", "cursor"),
        ("key=x", "key"),
        ("limit=1000", "limit"),
        ("model=" + "x" * 200, "model"),
    ],
)
async def test_a_wrong_filter_is_refused_by_name(office: Office, query: str, param: str) -> None:
    mine = await customer_of(office)
    response = await asked(office, mine.key.text, "GET", f"/requests?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (422, param)


async def test_zero_retention_hides_also_what_older_rows_still_hold(office: Office) -> None:
    mine = await customer_of(office)
    event = event_of(mine)
    await recorded(office, [event])
    await change_customer(office.stores, mine.customer.id, {"is_zero_retention": True})
    path = f"/requests/{public_form(event.request_id)}"
    own = (await asked(office, mine.key.text, "GET", path)).json()
    operators = (await office.ask("GET", path)).json()
    for report in (own, operators):
        assert (report["has_content"], report["instruction"], report["action"]) == (False, None, None)
        assert report["status"] == "success"


async def test_a_scoped_key_sees_only_its_own_requests(office: Office) -> None:
    mine = await customer_of(office)
    scoped = (await create_key(office.stores, mine.customer.id, NewKey(robots=("franka_panda",)))).key
    ours, theirs = event_of(mine, key_id=scoped.id), event_of(mine)
    await recorded(office, [ours, theirs])
    page = (await asked(office, scoped.text, "GET", "/requests")).json()
    assert [row["id"] for row in page["data"]] == [public_form(ours.request_id)]
    hidden = await asked(office, scoped.text, "GET", f"/requests/{public_form(theirs.request_id)}")
    assert hidden.status_code == 404
    other = await asked(office, scoped.text, "GET", f"/requests?key={public_id('key', mine.key.id)}")
    assert other.json()["data"] == []


async def test_operators_find_any_request_and_a_viewer_sees_no_content(office: Office) -> None:
    mine = await customer_of(office)
    event = event_of(mine)
    await recorded(office, [event])
    seen: dict[Role, Any] = {}
    for role in Role:
        seen[role] = (await office.ask("GET", f"/requests/{public_form(event.request_id)}", role=role)).json()
    assert [seen[role]["instruction"] for role in Role] == [None, event.instruction, event.instruction]
    page = (await office.ask("GET", f"/customers/{public_id('cus', mine.customer.id)}/requests", role=Role.VIEWER)).json()
    assert (page["data"][0]["id"], page["data"][0]["instruction"]) == (public_form(event.request_id), None)
