"""An invoice or credit note as PDF pages: who, to whom, the lines, what is to be paid and where. Values in, bytes out.

The same values give the same bytes. Knows no table: everything comes from the frozen statement; colour and logo from the seller.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from io import BytesIO
from typing import Any

from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from billing.money import as_text, unit_text
from billing.rating import LineKind
from billing.statement import Statement
from control_plane.invoices.lettering import BOLD, REGULAR, Face, draw, draw_right
from control_plane.invoices.seller import Seller

WIDTH, HEIGHT = 595.28, 841.89  # A4 in points
_LEFT, _RIGHT, _TOP, _BOTTOM = 51.0, WIDTH - 51.0, HEIGHT - 51.0, 92.0
_QUANTITY_X, _UNIT_X = _RIGHT - 175, _RIGHT - 92
_DESCRIPTION_WIDTH = _QUANTITY_X - _LEFT - 62
_CELLS = ((_QUANTITY_X, 56.0), (_UNIT_X, 77.0), (_RIGHT, 86.0))  # where each ends, and how wide it may be
_TEXT, _SMALL, _STRONG = Face(name=REGULAR, size=9), Face(name=REGULAR, size=7.5), Face(name=BOLD, size=9)
_TITLE, _NAME = Face(name=BOLD, size=20), Face(name=BOLD, size=12)
_LEADING, _ROW_GAP = 12.0, 7.0
_INK, _GREY, _RULE = HexColor("#1b1f23"), HexColor("#5b6570"), HexColor("#d0d7de")
_LOGO_BOX = (150.0, 44.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `cells` are quantity, unit price and amount."""

    description: Sequence[str]
    cells: tuple[str, str, str]

    @property
    def height(self) -> float:
        """With the gap below."""
        return max(1, len(self.description)) * _LEADING + _ROW_GAP


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """What a document shows, in words. `totals` are label and amount, the last one being what it comes to."""

    title: str
    seller: Seller
    kept_seller: dict[str, Any]
    buyer: dict[str, Any]
    facts: Sequence[tuple[str, str]]
    rows: Sequence[Row]
    totals: Sequence[tuple[str, str]]
    notes: Sequence[str]
    mark: str | None = field(default=None)


def invoice_pdf(statement: Statement, seller: Seller) -> bytes:
    """The invoice. A draft says that it is one."""
    currency = statement.currency
    due = statement.due_on
    number = statement.number or "draft"
    facts = [("Invoice number", number), ("Customer", statement.buyer["customer"]), ("Period", f"{statement.month:%B %Y}")]
    if statement.finalized_at is not None and due is not None:
        facts += [("Date", f"{statement.finalized_at:%-d %B %Y}"), ("Due", f"{due:%-d %B %Y}")]
    notes = [f"Please pay by {due:%-d %B %Y}, naming {number}."] if due is not None and statement.total_cents else []
    return paper_pdf(
        Paper(
            title="Invoice",
            seller=seller,
            kept_seller=dict(statement.seller),
            buyer=dict(statement.buyer),
            facts=facts,
            rows=list(_rows(statement)),
            totals=[("Total", as_text(statement.total_cents, currency))],
            notes=[*notes, "Usage is counted in UTC; only requests that were answered with an action are billed."],
            mark=None if statement.number else "DRAFT",
        )
    )


def paper_pdf(paper: Paper) -> bytes:
    """The pages of any such document."""
    rl_config.useA85 = 0  # a text form of binary streams, for the mail of old: a quarter larger and slower
    out = BytesIO()
    canvas = Canvas(out, pagesize=(WIDTH, HEIGHT), invariant=1)
    canvas.setTitle(f"{paper.title} {paper.facts[0][1]}")
    canvas.setAuthor(paper.kept_seller["name"])
    pages = list(_pages(paper))
    for page, rows in enumerate(pages):
        y = _head(canvas, paper) if page == 0 else _TOP
        y = _table(canvas, paper, rows, y)
        if page == len(pages) - 1:
            _foot(canvas, paper, y)
        _frame(canvas, paper, f"{page + 1} / {len(pages)}")
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def _rows(statement: Statement) -> Iterator[Row]:
    for line in statement.lines:
        unit = "" if line.unit_cents is None else _unit(line.kind, line.unit_cents, statement.currency)
        quantity = "" if line.quantity is None else f"{line.quantity:,}"
        yield row(line.description, (quantity, unit, as_text(line.amount_cents, statement.currency)))


def row(description: str, cells: tuple[str, str, str]) -> Row:
    """A row whose description is wrapped."""
    return Row(description=_TEXT.wrap(description, _DESCRIPTION_WIDTH), cells=cells)


def _unit(kind: LineKind, unit_cents: Decimal, currency: str) -> str:
    price = unit_text(unit_cents, currency)
    return f"{price} / month" if kind is LineKind.FEE else price


def _pages(paper: Paper) -> Iterator[list[Row]]:
    """Rows by page; the last page has room for the foot as well."""
    room = _head_bottom(paper) - _BOTTOM - 30
    foot = len(paper.totals) * 18 + (len(paper.notes) + len(paper.kept_seller["bank"])) * _LEADING + 40
    page: list[Row] = []
    for index, each in enumerate(paper.rows):
        needed = each.height + (foot if index == len(paper.rows) - 1 else 0)
        if page and sum(other.height for other in page) + needed > room:
            yield page
            page, room = [], _TOP - _BOTTOM - 30
        page.append(each)
    yield page


def _head(canvas: Canvas, paper: Paper) -> float:
    canvas.setFillColor(HexColor(paper.seller.accent))
    draw(canvas, _TITLE, _LEFT, _TOP - 18, paper.title)
    _logo(canvas, paper)
    y = _TOP - 60
    canvas.setFillColor(_INK)
    seller = paper.kept_seller
    own = [*seller["address"], *([f"VAT {seller['vat_id']}"] if seller["vat_id"] else []), *_some(seller["email"])]
    _block(canvas, (_RIGHT - 190, y), [seller["name"], *own], 190)
    _block(canvas, (_LEFT, y), [paper.buyer["company_name"], paper.buyer["email"]], 250)
    y = _facts_top(paper)
    for label, value in paper.facts:
        canvas.setFillColor(_GREY)
        draw(canvas, _TEXT, _LEFT, y, label)
        canvas.setFillColor(_INK)
        draw(canvas, _TEXT, _LEFT + 95, y, value)
        y -= 14
    return _head_bottom(paper)


def _facts_top(paper: Paper) -> float:
    seller = paper.kept_seller
    lines = 1 + len(seller["address"]) + bool(seller["vat_id"]) + bool(seller["email"])
    names = len(_NAME.wrap(seller["name"], 190)), len(_NAME.wrap(paper.buyer["company_name"], 250))
    return _TOP - 60 - max(lines + names[0], 2 + names[1]) * 13 - 16


def _head_bottom(paper: Paper) -> float:
    return _facts_top(paper) - len(paper.facts) * 14 - 12


def _block(canvas: Canvas, at: tuple[float, float], lines: Sequence[str], width: float) -> None:
    """A name and what stands below it."""
    x, y = at
    name, *below = lines
    for part in _NAME.wrap(name, width):
        draw(canvas, _NAME, x, y, part)
        y -= 15
    for line in below:
        for part in _TEXT.wrap(line, width):
            draw(canvas, _TEXT, x, y, part)
            y -= 13


def _logo(canvas: Canvas, paper: Paper) -> None:
    if paper.seller.logo is None:
        return
    image = ImageReader(str(paper.seller.logo))
    width, height = image.getSize()
    scale = min(_LOGO_BOX[0] / width, _LOGO_BOX[1] / height)
    size = {"width": width * scale, "height": height * scale}
    canvas.drawImage(image, _RIGHT - size["width"], _TOP - 22 - size["height"] / 2, mask="auto", **size)


def _table(canvas: Canvas, paper: Paper, rows: Sequence[Row], y: float) -> float:
    canvas.setFillColor(HexColor(paper.seller.accent))
    draw(canvas, _STRONG, _LEFT, y, "Description")
    for x, title in ((_QUANTITY_X, "Requests"), (_UNIT_X, "Unit price"), (_RIGHT, "Amount")):
        draw_right(canvas, _STRONG, x, y, title)
    _rule(canvas, y - 5)
    y -= 20
    canvas.setFillColor(_INK)
    for each in rows:
        spare = 0.0  # the room of an empty cell is its neighbour's
        for (x, width), text in zip(_CELLS, each.cells, strict=True):
            draw_right(canvas, _TEXT.fitted(text, width + spare), x, y, text)
            spare = 0.0 if text else width
        for line, text in enumerate(each.description):
            draw(canvas, _TEXT, _LEFT, y - line * _LEADING, text)
        y -= each.height
    return y


def _foot(canvas: Canvas, paper: Paper, y: float) -> None:
    _rule(canvas, y + 6)
    for position, (label, amount) in enumerate(paper.totals, 1):
        face = _NAME if position == len(paper.totals) else _TEXT
        y -= 12
        draw(canvas, face, _UNIT_X - 82, y, label)
        draw_right(canvas, face.fitted(amount, _RIGHT - _UNIT_X + 82 - face.width(label) - 8), _RIGHT, y, amount)
        y -= 6
    y -= 24
    for text in (*paper.notes, *paper.kept_seller["bank"]):
        draw(canvas, _TEXT, _LEFT, y, text)
        y -= _LEADING


def _frame(canvas: Canvas, paper: Paper, page: str) -> None:
    _rule(canvas, 60)
    canvas.setFillColor(_GREY)
    draw(canvas, _SMALL, _LEFT, 46, paper.kept_seller["footer"] or paper.kept_seller["name"])
    draw_right(canvas, _SMALL, _RIGHT, 46, f"{paper.facts[0][1]} · page {page}")
    if paper.mark is not None:
        canvas.saveState()
        canvas.setFillColor(HexColor("#c62828"), alpha=0.12)
        canvas.translate(WIDTH / 2, HEIGHT / 2)
        canvas.rotate(45)
        canvas.setFont(BOLD, 110)
        canvas.drawCentredString(0, -40, paper.mark)
        canvas.restoreState()


def _rule(canvas: Canvas, y: float) -> None:
    canvas.setStrokeColor(_RULE)
    canvas.setLineWidth(0.6)
    canvas.line(_LEFT, y, _RIGHT, y)


def _some(text: str | None) -> list[str]:
    return [text] if text else []
