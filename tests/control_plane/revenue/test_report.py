"""The report: every figure of the mock-up is there, nothing that a customer typed is markup, and the page needs nothing else."""

import asyncio
import csv
import io
import re
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from control_plane.revenue import charts
from control_plane.revenue.charts import Series, Step
from control_plane.revenue.commands import create_billing_commands, create_revenue_commands
from control_plane.revenue.figures import read_figures
from control_plane.revenue.open_month import refresh
from control_plane.revenue.page import as_html
from control_plane.revenue.tables import as_csv
from control_plane.revenue.terminal import print_report
from control_plane.revenue.wording import growth, money, percent, short_count, short_money
from tests.control_plane.revenue.conftest import LAST, RUNNING, Business
from tests.control_plane.revenue.making import a_year


class Outside(HTMLParser):
    """Collects whatever would make a browser ask somebody else, or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe", "object", "embed", "base", "form"}:
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name, _ in attrs if name.startswith("on") or name in {"src", "href", "xlink:href"}]


def plain(page: str) -> str:
    """What a reader sees."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S))


def test_the_page_has_every_figure_of_the_mock_up() -> None:
    words = plain(as_html(a_year()))
    for figure in ("$45,800", "+12.0 %", "23", "+3 new", "2.1M", "+15.0 %", "Acme Robotics Inc.", "$15,000.00", "$8,500.00"):
        assert figure in words, figure
    for tier in ("enterprise", "pro", "free"):
        assert tier in words
    for figure in ("$32,060", "$13,740", "$2,290", "89.0 %", "$48,090", "72.1 %", "Churn", "forecast"):
        assert figure in words, figure


def test_the_page_asks_nobody_and_runs_nothing_whatever_customers_are_called() -> None:
    page = as_html(a_year())
    reader = Outside()
    reader.feed(page)
    assert reader.found == []
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_a_page_without_costs_a_closed_month_and_an_empty_one_are_said_so() -> None:
    assert "what GPUs and servers cost is not set" in plain(as_html(a_year(has_costs=False)))
    closed = plain(as_html(a_year(is_running=False)))
    assert "from final invoices" in closed
    assert "forecast $" not in closed
    year = a_year()
    nothing = replace(year, months=[], revenue={}, service=[], tiers=[], customers=[], movements=[], usage=[], refreshed_at=None)
    assert "There were no customers in this month." in plain(as_html(nothing))
    console = Console(file=io.StringIO(), width=120)
    print_report(nothing, console)
    assert "no customers" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


def test_the_terminal_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(a_year(), Console(width=140))
    out = capsys.readouterr().out
    for figure in ("$45,800.00", "+12.0 %", "$32,060.00", "$13,740.00", "89.0 %", "23 (20 at the start)", "2,100,000 (+15.0 %)"):
        assert figure in out, figure


def test_names_are_no_formulas_in_a_spreadsheet_and_amounts_are_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(a_year())["customers"])))
    assert rows[-1]["customer"] == "'=HYPERLINK(1)"
    assert sum(Decimal(row["revenue"]) for row in rows) == Decimal("30700.00")
    months = list(csv.DictReader(io.StringIO(as_csv(a_year())["months"])))
    assert (months[-1]["month"], months[-1]["state"], months[-1]["revenue"], months[-1]["gross_margin"]) == (
        *("2026-11", "running", "45800.00"),
        "40760.00",
    )
    changes = as_csv(a_year())["movements"]
    assert "Old Arm Co,pro,churned,churn,USD,500.00,0.00" in changes


async def typed(database_url: str, *words: str) -> Result:
    """The command as an operator types it."""
    make = create_billing_commands if words[0] == "check" else create_revenue_commands
    return await asyncio.to_thread(CliRunner(env={"COLUMNS": "160"}).invoke, make(lambda: database_url), words)


async def test_a_real_business_is_reported_on_all_three_ways(
    database_url: str, database: asyncpg.Connection, engine: AsyncEngine, business: Business, tmp_path: Path
) -> None:
    done = await typed(database_url, "report", "--month", f"{LAST:%Y-%m}", "--out", str(tmp_path / "reports"))
    assert done.exit_code == 0, done.output
    assert "$2,864.50" in done.output
    page = (tmp_path / "reports" / f"revenue-{LAST:%Y-%m}.html").read_text()
    assert "$2,864.50" in page
    assert "Gone &amp; &lt;Sons&gt;" in page
    assert "In EUR" in plain(page)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "reports" / f"revenue-{LAST:%Y-%m}-customers.csv").read_text())))
    total = await database.fetchval("SELECT sum(total_cents) FROM invoices WHERE month = $1 AND currency = 'USD'", LAST)
    assert sum(Decimal(row["revenue"]) for row in rows if row["currency"] == "USD") * 100 == total
    assert (await typed(database_url, "report")).exit_code == 0
    wrong = await typed(database_url, "report", "--month", "2026-13")
    assert (wrong.exit_code, "is not a month like 2026-11" in wrong.output) == (2, True)


async def test_a_month_before_the_first_customer_is_empty(database_url: str, business: Business) -> None:
    assert "there were no customers" in (await typed(database_url, "report", "--month", "2020-01")).output


async def test_figures_are_of_one_moment_and_currencies_stay_apart(engine: AsyncEngine, business: Business) -> None:
    await refresh(engine)
    figures = await read_figures(engine, RUNNING)
    assert list(figures.revenue) == ["USD", "EUR"]
    assert {customer.currency for customer in figures.customers} == {"USD", "EUR"}
    euro = figures.money("EUR")
    assert euro is not None
    assert (euro.revenue_cents, euro.payers, euro.arpu_cents) == (200_000, 1, 200_000)
    dollars = figures.money("USD")
    assert dollars is not None
    assert dollars.forecast_cents is not None
    assert dollars.forecast_cents >= dollars.revenue_cents


async def test_the_check_ends_with_its_verdict(
    database_url: str, database: asyncpg.Connection, engine: AsyncEngine, business: Business
) -> None:
    bad = await typed(database_url, "check")  # roll-ups without rows
    assert bad.exit_code == 1
    assert "BAD  roll_ups_equal_rows" in bad.output
    assert "ok   ledger_balances" in bad.output
    await database.execute("INSERT INTO usage_archive (day) SELECT DISTINCT day FROM usage_days")
    fine = await typed(database_url, "check", "--since", "2020-01")
    assert (fine.exit_code, "BAD" in fine.output) == (0, False)


VALUES = st.lists(st.floats(min_value=-1e9, max_value=1e9), min_size=1, max_size=14)


@given(VALUES, VALUES)
def test_every_chart_is_whole_whatever_the_values(first: list[float], second: list[float]) -> None:
    size = min(len(first), len(second))
    labels = [f"<{n}>" for n in range(size)]
    series = [Series(name="a&b", colour="--fees", values=values[:size]) for values in (first, second)]
    drawn = [
        charts.columns(series, labels, str),
        charts.line(first[:size], labels, str, colour="--fees", name="x"),
        charts.bridge(
            [Step(name=label, value=value, is_level=n == 0) for n, (label, value) in enumerate(zip(labels, first, strict=False))],
            str,
        ),
    ]
    for chart in drawn:
        root = ElementTree.fromstring(chart)  # noqa: S314 -- our own markup
        heights = [float(one.get("height") or 0) for one in root.iter("rect")]
        assert all(0 <= height <= charts.HEIGHT for height in heights)
        assert "nan" not in chart
        assert "inf" not in chart.replace("info", "")


def test_nothing_to_draw_is_drawn_empty() -> None:
    assert charts.spark([]) == charts.spark([0, 0]) == ""
    assert "polyline" not in charts.line([], [], str, colour="--fees", name="x")
    assert ElementTree.fromstring(charts.columns([], [], str)).tag == "svg"  # noqa: S314 -- our own markup


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (money(286_450, "USD"), "$2,864.50"),
        (money(-300, "EUR"), "-€3.00"),
        (money(5, "JPY"), "JPY 5"),
        (money(1_234, "KWD"), "KWD 1.234"),
        (money(None, "USD"), "–"),
        (short_money(4_580_000, "USD"), "$45,800"),
        (short_money(123_456_789_00, "USD"), "$123.46M"),
        (short_count(2_100_000), "2.1M"),
        (short_count(46_631), "46,631"),
        (growth(Decimal("12.04")), "+12.0 %"),
        (growth(Decimal("-3")), "-3.0 %"),
        (growth(None), "–"),
        (percent(None), "–"),
    ],
)
def test_figures_are_said_as_people_read_them(said: str, expected: str) -> None:
    assert said == expected
