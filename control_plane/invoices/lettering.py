"""Text in any script that our fonts can draw: each stretch of a line in the first font that has its characters; and wrapping.

DejaVu Sans draws Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and Arabic letters; Droid Sans Fallback Chinese, Japanese and
Korean. Not covered: right-to-left order and joined Arabic letters, Indic scripts, emoji; what no font has is drawn as a box.
Both are embedded as subsets. Fonts are read once per process.
"""

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from io import BytesIO
from itertools import groupby

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

REGULAR, BOLD, _FALLBACK = "DejaVuSans", "DejaVuSans-Bold", "DroidSansFallback"
_BLANK = 0x20  # every font has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A font at a size."""

    name: str
    size: float

    def width(self, text: str) -> float:
        """In points."""
        return sum(_thousandths(font, part) for font, part in _stretches(text, self.name)) * self.size / 1000

    def fitted(self, text: str, width: float) -> "Face":
        """This face, or the same one as small as the text needs to be no wider than that."""
        needed = self.width(text)
        return self if needed <= width else replace(self, size=self.size * width / needed)

    def wrap(self, text: str, width: float) -> list[str]:
        """Lines no wider than that, broken at spaces, or anywhere in a word that is too long."""
        lines, line = [], ""
        for word in text.split():
            joined = f"{line} {word}" if line else word
            if self.width(joined) <= width:
                line = joined
                continue
            *full, line = [*([line] if line else []), *self._broken(word, width)]
            lines += full
        return [*lines, line] if line else lines

    def _broken(self, word: str, width: float) -> list[str]:
        parts = [""]
        for character in word:
            if parts[-1] and self.width(parts[-1] + character) > width:
                parts.append("")
            parts[-1] += character
        return parts


def draw(canvas: Canvas, face: Face, x: float, y: float, text: str) -> None:
    """One line, from the left."""
    for font, part in _stretches(text, face.name):
        canvas.setFont(font, face.size)
        canvas.drawString(x, y, part)
        x += _thousandths(font, part) * face.size / 1000


def draw_right(canvas: Canvas, face: Face, x: float, y: float, text: str) -> None:
    """One line that ends at `x`."""
    draw(canvas, face, x - face.width(text), y, text)


@lru_cache(maxsize=4096)
def _stretches(text: str, name: str) -> tuple[tuple[str, str], ...]:
    """Stretches of characters that one font has. What no font has stays in the first."""
    own = _widths(name)

    def font_of(character: str) -> str:
        return name if ord(character) in own or ord(character) not in _widths(_FALLBACK) else _FALLBACK

    return tuple((font, "".join(part)) for font, part in groupby(text, font_of))


@lru_cache(maxsize=4096)
def _thousandths(font: str, text: str) -> float:
    widths = _widths(font)
    return sum(widths.get(ord(character), widths[_BLANK]) for character in text)


@cache
def _widths(name: str) -> dict[int, float]:
    """The characters that a font has, and how wide they are; reads and registers it."""
    content = resources.files("control_plane.invoices").joinpath("fonts", f"{name}.ttf").read_bytes()
    font = TTFont(name, BytesIO(content))
    pdfmetrics.registerFont(font)
    missing = font.face.defaultWidth
    return {code: font.face.charWidths.get(code, missing) for code in font.face.charToGlyph}
