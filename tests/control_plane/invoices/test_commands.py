"""The commands as a person types them, in this process, over a real database."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from typer.testing import CliRunner

from control_plane.cli import app
from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.invoices.commands import cents_of
from control_plane.keys.fields import clean_month
from tests.conftest import outside
from tests.control_plane.invoices.making import SEPTEMBER, a_customer, use
from tests.control_plane.whole_app import PEPPER


@pytest.fixture
def acme(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> UUID:
    """A customer with usage, and an environment in which the commands find it."""
    seller = tmp_path / "seller.toml"
    seller.write_text('name = "Roboter"\nnumber_prefix = "R-"\n')
    for name, value in {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "KEY_PEPPER": PEPPER,
        "DATABASE_TIMEOUT_S": "30",
        "SELLER_FILE": str(seller),
    }.items():
        monkeypatch.setenv(f"VLA_{name}", value)
    monkeypatch.chdir(tmp_path)
    return outside(lambda: asyncio.run(_filled(database_url)))


async def _filled(url: str) -> UUID:
    database = await asyncpg.connect(url)
    customer = await a_customer(database, tier="enterprise", company_name="=Acme Robotics")
    await use(database, customer, SEPTEMBER, 36_450)
    await database.close()
    return customer


def run(*words: str) -> str:
    """What the command printed; it must succeed."""
    result = outside(lambda: CliRunner().invoke(app, list(words), catch_exceptions=False))
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def test_a_month_is_closed_looked_at_sent_and_paid(acme: UUID, tmp_path: Path) -> None:
    assert "1 drafts" in run("invoices", "close", "--month", "2026-09", "--draft")
    closed = json.loads(run("invoices", "close", "--month", "2026-09", "--send", "--json"))
    assert (closed["finalized"], closed["documents"], closed["sent"]) == (1, 1, 1)
    assert closed["totals"] == ["1 in USD: USD 2,864.50"]
    again = json.loads(run("invoices", "close", "--month", "2026-09", "--json"))
    assert (again["was_closed"], again["finalized"]) == (True, 0)
    (listed,) = json.loads(run("invoices", "list", "--month", "2026-09", "--json"))["invoices"]
    assert (listed["number"], listed["open_cents"]) == ("R-000001", 286_450)
    rows = list(csv.DictReader(io.StringIO(run("invoices", "show", "R-000001", "--csv"))))
    assert [row["amount"] for row in rows] == ["2500.00", "364.50"]
    assert rows[0]["company_name"] == "'=Acme Robotics"  # no spreadsheet runs it
    assert "Enterprise plan: requests" in run("invoices", "show", listed["id"])
    assert run("invoices", "pdf", "R-000001").strip() == "R-000001.pdf"
    assert (tmp_path / "R-000001.pdf").read_bytes().startswith(b"%PDF-")
    assert "USD 864.50" in run("invoices", "pay", "R-000001", "--amount", "2000.00", "--reference", "A")
    assert run("invoices", "credit", "R-000001", "--amount", "0.50", "--reason", "rounding").strip() == "CN-000001.pdf"
    paid = json.loads(run("invoices", "pay", "R-000001", "--reference", "B", "--json"))
    assert paid["invoice"]["state"] == "paid"
    assert "was sent before" in run("invoices", "send", "R-000001")
    assert acme is not None


def test_a_plan_is_previewed_changed_and_taken_back(acme: UUID) -> None:
    customer = public_id("cus", acme)
    preview = json.loads(run("customers", "plan", customer, "pro", "--discount-percent", "12.5", "--preview", "--json"))
    assert preview["is_preview"]
    assert preview["difference_cents"]["USD"] < 0
    next_year = f"{datetime.now(UTC).year + 1}-01-01"
    assert "changed" in run("customers", "plan", customer, "pro", "--at", next_year, "--per-request-cents", "0.25")
    assert "1 planned changes" in run("customers", "cancel-plan", customer)
    assert "-400 requests" in run(
        "customers", "adjust", customer, "--day", "2026-09-01", "--requests", "-400", "--reason", "test"
    )


@pytest.mark.parametrize("text", ["2026-13", "x", "9999-12", "0000-01", "2026-1", "2026-10\n"])
def test_a_month_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        clean_month(text)
    assert refused.value.param == "month"


@pytest.mark.parametrize(
    ("text", "currency", "cents"), [("12.50", "USD", 1_250), ("12", "JPY", 12), (None, "USD", None), ("0.001", "KWD", 1)]
)
def test_an_amount_is_read_in_its_currency(text: str | None, currency: str, cents: int | None) -> None:
    assert cents_of(text, currency) == cents


@pytest.mark.parametrize("text", ["0", "-1", "0.001", "NaN", "1e99", "x", ""])
def test_an_amount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="amount"):
        cents_of(text, "USD")
