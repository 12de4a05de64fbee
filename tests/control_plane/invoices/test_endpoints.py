"""What customers and operators get over HTTP, from the whole application on real stores."""

import csv
import io
import secrets
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import httpx
import pytest
from pypdf import PdfReader

from billing.tiers import Tier
from control_plane.customers.verbs import NewCustomer, create_customer
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import NewKey
from control_plane.operators.roles import Role
from tests.control_plane.invoices.making import BEGIN, SEPTEMBER, close, use
from tests.control_plane.operators.conftest import Office, office, office_settings

__all__ = ["office", "office_settings"]


class Customer:
    """A customer since September with a key."""

    def __init__(self, office: Office, id_: UUID, key: str) -> None:
        self.id, self._key, self._client = id_, key, office.client

    async def get(self, path: str) -> httpx.Response:
        """One call with their key."""
        return await self._client.get(f"/v1/billing{path}", headers={"Authorization": f"Bearer {self._key}"})


async def a_customer(office: Office, database: asyncpg.Connection, name: str = "Acme Robotics Inc.") -> Customer:
    """Made as the command makes them, and set back to September."""
    new = NewCustomer(company_name=name, email=f"{secrets.token_hex(6)}@example.com", tier=Tier.ENTERPRISE)
    created = await create_customer(office.stores, new, NewKey())
    await database.execute("ALTER TABLE subscriptions DISABLE TRIGGER subscription_keeps")
    await database.execute("UPDATE subscriptions SET effective_at = $1 WHERE customer_id = $2", BEGIN, created.customer.id)
    await database.execute("ALTER TABLE subscriptions ENABLE TRIGGER subscription_keeps")
    return Customer(office, created.customer.id, created.key.text)


async def test_a_customer_sees_their_invoices_in_every_form(office: Office, database: asyncpg.Connection) -> None:
    acme = await a_customer(office, database)
    await use(database, acme.id, SEPTEMBER, 36_450)
    await close(office.stores.engine, SEPTEMBER)
    page = (await acme.get("/invoices")).json()
    (invoice,) = page["data"]
    assert (invoice["number"], invoice["total_cents"], invoice["state"]) == ("INV-000001", 286_450, "finalized")
    assert page["next_cursor"] is None
    report = (await acme.get(f"/invoices/{invoice['id']}")).json()
    assert [line["amount_cents"] for line in report["lines"]] == [250_000, 36_450]
    assert report["prices"][0]["per_request_cents"] == "1"
    table = await acme.get(f"/invoices/{invoice['id']}.csv")
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["amount"] for row in rows] == ["2500.00", "364.50"]
    pdf = await acme.get(f"/invoices/{invoice['id']}.pdf")
    assert pdf.headers["content-type"] == "application/pdf"
    assert pdf.headers["content-disposition"] == 'attachment; filename="INV-000001.pdf"'
    words = PdfReader(io.BytesIO(pdf.content)).pages[0].extract_text()
    assert all(word in words for word in ("INV-000001", "Acme Robotics Inc.", "USD 2,864.50", "36,450"))


async def test_anothers_invoice_and_a_draft_are_not_there(office: Office, database: asyncpg.Connection) -> None:
    acme, other = await a_customer(office, database), await a_customer(office, database, "Other")
    await close(office.stores.engine, SEPTEMBER)
    (theirs,) = (await other.get("/invoices")).json()["data"]
    for ending in ("", ".pdf", ".csv"):
        assert (await acme.get(f"/invoices/{theirs['id']}{ending}")).status_code == 404
        assert (await other.get(f"/invoices/{theirs['id']}{ending}")).status_code == 200
        assert (await acme.get(f"/invoices/inv_{'0' * 32}{ending}")).status_code == 404
        assert (await acme.get(f"/invoices/x{ending}")).status_code == 404


async def test_the_month_so_far_says_cost_forecast_and_cap(office: Office, database: asyncpg.Connection) -> None:
    acme = await a_customer(office, database)
    today = datetime.now(UTC).date()
    await use(database, acme.id, today, 1_000)
    await database.execute("UPDATE customer_accounts SET spend_cap_cents = 280000 WHERE id = $1", acme.id)
    current = (await acme.get("/current")).json()
    assert (current["requests"], current["cost_so_far_cents"]) == (1_000, {"USD": 251_000})
    assert current["forecast_cents"]["USD"] >= 251_000
    assert current["spend_cap"]["used_percent"] == pytest.approx(89.6, abs=0.1)
    assert [threshold["is_reached"] for threshold in current["spend_cap"]["thresholds"]] == [True, True, False]
    assert [line["kind"] for line in current["lines"]] == ["fee", "usage"]


async def test_an_operator_gets_paid_credits_and_sends(office: Office, database: asyncpg.Connection) -> None:
    acme = await a_customer(office, database)
    await close(office.stores.engine, SEPTEMBER)
    (invoice,) = (await office.ask("GET", "/invoices?month=2026-09&state=finalized")).json()["data"]
    path = f"/invoices/{invoice['id']}"
    paid = (await office.ask("POST", f"{path}/pay", json={"reference": "E2E", "amount_cents": 100})).json()
    assert (paid["is_new"], paid["invoice"]["open_cents"]) == (True, 249_900)
    note = await office.ask("POST", f"{path}/credit", json={"reason": "An outage", "amount_cents": 900})
    assert (note.json()["number"], note.json()["amount_cents"]) == ("CN-000001", 900)
    assert (await office.ask("POST", f"{path}/send", json={})).json() == {"is_sent": True}
    refused = await office.ask("POST", f"{path}/void", json={"reason": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "invoice_state")
    assert (await office.ask("POST", f"{path}/uncollectible", json={"reason": "x"})).json()["state"] == "uncollectible"
    assert (await office.ask("GET", f"{path}.pdf")).content.startswith(b"%PDF-")
    assert (await office.ask("POST", f"{path}/pay", role=Role.VIEWER, json={})).status_code == 403
    audited = await database.fetchval("SELECT count(*) FROM audit_log WHERE actor LIKE 'operator %' AND action LIKE 'invoice.%'")
    assert audited == 4
    assert acme.id is not None


async def test_a_plan_is_previewed_and_then_in_force_in_the_limits_too(office: Office, database: asyncpg.Connection) -> None:
    acme = await a_customer(office, database)
    path, body = f"/customers/{public_id('cus', acme.id)}", {"tier": "pro", "discount_basis_points": 1000}
    shown = (await office.ask("POST", f"{path}/plan/preview", json=body, role=Role.VIEWER)).json()
    assert await database.fetchval("SELECT tier FROM customer_accounts WHERE id = $1", acme.id) == "enterprise"
    changed = (await office.ask("POST", f"{path}/plan", json=body)).json()
    assert shown["difference_cents"]["USD"] == pytest.approx(changed["difference_cents"]["USD"], abs=60)  # seconds apart
    assert shown["difference_cents"]["USD"] < 0
    assert (await acme.get("/current")).json()["tier"] == "pro"
    bad = await office.ask("POST", f"{path}/plan", json={"tier": "pro", "effective_at": "2020-01-01T00:00:00Z"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (409, "effective_at")


@pytest.mark.parametrize("month", ["0000-01", "2026-10%0A", "9999-12"])
async def test_a_list_of_a_month_that_is_none_names_the_field(office: Office, month: str) -> None:
    refused = await office.ask("GET", f"/invoices?month={month}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "month")


async def test_a_correction_is_recorded_once_it_makes_sense(office: Office, database: asyncpg.Connection) -> None:
    acme = await a_customer(office, database)
    await use(database, acme.id, SEPTEMBER, 10)
    path = f"/customers/{public_id('cus', acme.id)}/usage-adjustments"
    too_much = await office.ask("POST", path, json={"day": "2026-09-01", "requests": -11, "reason": "x"})
    assert (too_much.status_code, too_much.json()["error"]["param"]) == (422, "requests")
    too_early = await office.ask("POST", path, json={"day": "2026-08-31", "requests": 4, "reason": "x"})
    assert (too_early.status_code, too_early.json()["error"]["param"]) == (422, "day")
    assert (await office.ask("POST", path, json={"day": "2026-09-01", "requests": -4, "reason": "x"})).status_code == 201
    await close(office.stores.engine, SEPTEMBER)
    assert (await acme.get("/invoices")).json()["data"][0]["total_cents"] == 250_006
