"""What an invoice looks like on paper: everything on it, on as many pages as it needs, in any script that the fonts have."""

import io
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image
from pypdf import PdfReader

from billing.rating import rate
from billing.statement import Statement
from control_plane.invoices.lettering import BOLD, REGULAR, Face
from control_plane.invoices.pdf import invoice_pdf
from control_plane.invoices.seller import STAND_IN, Seller, load_seller
from control_plane.settings import SettingsError
from tests.billing.making import MONTH, used, whole_month

SELLER = Seller(
    name="Roboter & Söhne mbH",
    address=("Große Straße 12", "10115 Berlin"),
    vat_id="DE123456789",
    bank=("IBAN DE02 1203 0000 0000 2020 51",),
    footer="HRB 12345 B",
)


def a_statement(company_name: str = "Acme Robotics Inc.", *, copies: int = 1) -> Statement:
    """A final invoice."""
    part = whole_month()
    lines = rate(MONTH, [part], [used(part, 36_450)]) * copies
    return Statement(
        id=UUID(int=1),
        customer_id=UUID(int=2),
        month=MONTH,
        currency="USD",
        legal_entity="main",
        number="INV-000042",
        total_cents=sum(line.amount_cents for line in lines),
        finalized_at=datetime(2026, 12, 1, tzinfo=UTC),
        due_on=date(2026, 12, 15),
        seller=SELLER.as_json(),
        buyer={"customer": "cus_1", "company_name": company_name, "email": "ops@example.com"},
        prices=[],
        lines=lines,
    )


def pages(content: bytes) -> list[str]:
    """The words of every page."""
    return [page.extract_text() for page in PdfReader(io.BytesIO(content)).pages]


def test_everything_that_must_be_on_it_is() -> None:
    (page,) = pages(invoice_pdf(a_statement(), SELLER))
    for words in (
        "INV-000042",
        "Acme Robotics Inc.",
        "Roboter & Söhne mbH",
        "10115 Berlin",
        "VAT DE123456789",
        "November 2026",
        "15 December 2026",
        "36,450",
        "USD 0.01",
        "USD 2,864.50",
        "IBAN DE02 1203 0000 0000 2020 51",
        "page 1 / 1",
    ):
        assert words in page


def test_the_same_invoice_is_the_same_bytes() -> None:
    assert invoice_pdf(a_statement(), SELLER) == invoice_pdf(a_statement(), SELLER)


@pytest.mark.parametrize("copies", [8, 9, 10, 11, 12, 40])
def test_a_long_invoice_goes_on_and_its_total_is_on_the_last_page_only(copies: int) -> None:
    found = pages(invoice_pdf(a_statement(copies=copies), SELLER))
    assert "".join(found).count("Enterprise plan: requests") == copies
    assert ["Total" in page for page in found] == [False] * (len(found) - 1) + [True]
    assert all(f"page {n} / {len(found)}" in page for n, page in enumerate(found, 1))


def test_a_draft_says_so_on_every_page() -> None:
    draft = replace(a_statement(copies=30), number=None, finalized_at=None, due_on=None)
    assert all("DRAFT" in page for page in pages(invoice_pdf(draft, STAND_IN)))


@pytest.mark.parametrize(
    "name", ["株式会社ロボット", "한국로봇", "机器人有限公司", "Ελληνικά Ρομπότ", "Роботы Кириллица", "Zażółć gęślą jaźń"]
)
def test_names_in_many_scripts_are_drawn_with_embedded_fonts(name: str) -> None:
    reader = PdfReader(io.BytesIO(invoice_pdf(a_statement(name), SELLER)))
    assert name in reader.pages[0].extract_text()
    fonts = [font.get_object() for font in reader.pages[0]["/Resources"]["/Font"].values()]  # type: ignore[index]  # pypdf's dictionaries
    used_fonts = [font for font in fonts if "Helvetica" not in font["/BaseFont"]]
    assert used_fonts
    assert all("/FontFile2" in font["/FontDescriptor"] for font in used_fonts)


def test_amounts_of_any_size_stay_in_their_columns() -> None:
    for text in ("USD 2,864.50", "VND 250,000,000,000", "USD 10,001,000,098,240.61", "123,456,789,012,345,678"):
        face = Face(name=REGULAR, size=9)
        assert face.fitted(text, 56.0).width(text) <= 56.0 + 1e-9
    assert Face(name=REGULAR, size=9).fitted("36,450", 56.0) == Face(name=REGULAR, size=9)


def test_a_statement_in_a_currency_of_large_numbers_is_drawn_with_every_digit() -> None:
    plain = a_statement()
    lines = tuple(replace(line, amount_cents=line.amount_cents * 10**9) for line in plain.lines)
    large = replace(plain, lines=lines, total_cents=plain.total_cents * 10**9)
    (page,) = pages(invoice_pdf(large, SELLER))
    assert "2,864,500,000,000.00" in page


def test_long_names_are_wrapped_within_their_width() -> None:
    face = Face(name=BOLD, size=12)
    for text in ("Robotics " * 20, "R" * 200, "ロボット" * 40, ""):
        lines = face.wrap(text, 190)
        assert all(face.width(line) <= 190 for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert Face(name=REGULAR, size=9).wrap("two words", 190) == ["two words"]


def test_a_logo_is_on_the_first_page(tmp_path: Path) -> None:
    Image.new("RGBA", (300, 90), (10, 20, 30, 255)).save(tmp_path / "logo.png")
    (tmp_path / "seller.toml").write_text('name = "Roboter"\nlogo = "logo.png"\n')
    reader = PdfReader(io.BytesIO(invoice_pdf(a_statement(copies=30), load_seller(tmp_path / "seller.toml"))))
    assert [len(page.images) for page in reader.pages] == [1] + [0] * (len(reader.pages) - 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = 3", "name"),
        ('name = "x"\ncolour = "red"', "colour"),
        ('name = "x"\npayment_days = -1', "payment_days"),
        ('name = "x"\nlogo = "nowhere.png"', "logo"),
        ('name = "x', "seller.toml"),
        ("", "name"),
    ],
)
def test_a_wrong_seller_file_names_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "seller.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_seller(path)


def test_a_missing_seller_file_is_told_and_none_is_the_stand_in(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="VLA_SELLER_FILE"):
        load_seller(tmp_path / "nothing.toml")
    assert load_seller(None) is STAND_IN
