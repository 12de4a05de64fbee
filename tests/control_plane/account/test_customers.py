"""Customers over HTTP, for operators."""

from typing import Any

import pytest

from control_plane.audit.reading import Filter, read_lines
from control_plane.mail.outbox import Mail, enqueue
from control_plane.operators.roles import Role
from tests.control_plane.account.conftest import Office, asked, customer_of

NEW = {"company_name": "Acme Robotics", "email": "ops@acme.example", "tier": "pro", "per_minute": 7}


async def test_a_customer_is_created_shown_changed_and_let_in(office: Office) -> None:
    made = await office.ask("POST", "/customers", json=NEW)
    assert made.status_code == 201, made.text
    customer, key = made.json()["customer"], made.json()["key"]["api_key"]
    path = f"/customers/{customer['id']}"
    assert (await office.ask("GET", path, role=Role.VIEWER)).json() == customer
    assert customer["limits"] == {"per_minute": 7, "per_day": 10_000, "per_month": 100_000, "concurrency": 100}
    change = {"tier": "enterprise", "per_minute": None, "is_zero_retention": True, "concurrency": 3}
    changed = (await office.ask("PATCH", path, json=change)).json()["customer"]
    assert changed["limits"] == {"per_minute": 1000, "per_day": 100_000, "per_month": None, "concurrency": 3}
    assert (changed["tier"], changed["is_zero_retention"]) == ("enterprise", True)
    assert (await asked(office, key, "GET", "/models")).status_code == 200
    await office.ask("PATCH", path, json={"is_active": False})
    (line, *_) = await read_lines(office.stores.engine, Filter(target=customer["id"]), limit=5)
    assert (line.before, line.after) == ({"is_active": True}, {"is_active": False})
    assert line.actor.endswith(" admin")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({**NEW, "email": "nobody"}, "email"),
        ({**NEW, "tier": "gold"}, "tier"),
        ({**NEW, "per_day": -1}, "per_day"),
        ({**NEW, "colour": 1}, "colour"),
        ({"email": "a@b.example"}, "company_name"),
    ],
)
async def test_a_wrong_customer_is_refused_by_name_and_none_is_made(office: Office, body: dict[str, Any], param: str) -> None:
    response = await office.ask("POST", "/customers", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (422, param)
    assert (await office.ask("GET", "/customers")).json()["data"] == []


async def test_a_change_of_nothing_or_of_nobody_is_refused(office: Office) -> None:
    await customer_of(office)
    (customer,) = (await office.ask("GET", "/customers")).json()["data"]
    assert (await office.ask("PATCH", f"/customers/{customer['id']}", json={})).json()["error"]["code"] == "missing_field"
    nobody = await office.ask("PATCH", "/customers/cus_00000000000000000000000000000000", json={"tier": "free"})
    assert nobody.status_code == 404


async def test_customers_are_listed_in_pages(office: Office) -> None:
    for _ in range(3):
        await customer_of(office)
    first = (await office.ask("GET", "/customers?limit=2", role=Role.VIEWER)).json()
    await customer_of(office)  # whoever comes meanwhile shifts nothing
    second = (await office.ask("GET", f"/customers?limit=2&cursor={first['next_cursor']}")).json()
    ids = [customer["id"] for page in (first, second) for customer in page["data"]]
    assert (len(ids), ids) == (3, sorted(ids, reverse=True))
    assert second["next_cursor"] is None


async def test_dead_mails_are_found_and_sent_again(office: Office) -> None:
    async with office.stores.engine.begin() as connection:
        for name in ("a", "b"):
            await enqueue(connection, Mail(to="ops@acme.example", subject=name, text="secret words", dedupe_key=name))
        await connection.exec_driver_sql("UPDATE mails SET status = 'dead', attempts = 9 WHERE subject = 'a'")
    page = (await office.ask("GET", "/mails?status=dead", role=Role.VIEWER)).json()
    (dead,) = page["data"]
    assert (dead["subject"], "secret words" in str(page)) == ("a", False)
    again = (await office.ask("POST", f"/mails/{dead['id']}/replay", role=Role.SUPPORT)).json()
    assert (again["status"], again["attempts"]) == ("waiting", 0)
    assert (await read_lines(office.stores.engine, Filter(target=dead["id"]), limit=1))[0].action == "mail.replay"


async def test_an_operator_caps_what_a_month_may_cost_and_takes_the_cap_away(office: Office) -> None:
    made = (await office.ask("POST", "/customers", json=NEW)).json()["customer"]
    path = f"/customers/{made['id']}"
    assert (made["spend_cap_cents"], made["deadline_ms"]) == (None, None)
    capped = (await office.ask("PATCH", path, json={"spend_cap_cents": 300_000, "deadline_ms": 200})).json()["customer"]
    assert (capped["spend_cap_cents"], capped["deadline_ms"]) == (300_000, 200)
    freed = (await office.ask("PATCH", path, json={"spend_cap_cents": None})).json()["customer"]
    assert (freed["spend_cap_cents"], freed["deadline_ms"]) == (None, 200)
    assert freed == (await office.ask("GET", path)).json()


@pytest.mark.parametrize("change", [{"spend_cap_cents": -1}, {"spend_cap_cents": 10**12 + 1}, {"deadline_ms": 0}])
async def test_an_impossible_cap_or_deadline_is_refused_by_name(office: Office, change: dict[str, int]) -> None:
    made = (await office.ask("POST", "/customers", json=NEW)).json()["customer"]
    refused = await office.ask("PATCH", f"/customers/{made['id']}", json=change)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, next(iter(change)))
    assert (await office.ask("GET", f"/customers/{made['id']}")).json() == made
