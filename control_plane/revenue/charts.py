"""Charts as inline SVG: no script, no font, no address. Values in, markup out; every text is escaped. Knows no database.

A chart is drawn in its own units and scales with the page; colours are custom properties of the page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 10, 14, 26
_WIDEST_BAR = 60.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

_DOT = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5" fill="var({})"><title>{}</title></circle>')
_RULE = Markup('<line x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}" class="{}"/>')
_BAR = Markup(
    '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2" fill="var({})" opacity="{}"><title>{}</title></rect>'
)

Say = Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One value a column."""

    name: str
    colour: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One column of a bridge: what is there, or what changes it."""

    name: str
    value: float
    is_level: bool = False


def columns(series: Sequence[Series], labels: Sequence[str], say: Say, *, is_last_open: bool = False) -> Markup:
    """Stacked columns, one a label; negative values hang below. The last is hatched while its month runs."""
    high = max((sum(max(0.0, v) for v in at) for at in _across(series)), default=0.0)
    low = min((sum(min(0.0, v) for v in at) for at in _across(series)), default=0.0)
    scale = _Scale.over(low, high)
    parts = [scale.grid(say)]
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    for n, (label, values) in enumerate(zip(labels, _across(series), strict=True)):
        middle, up, down = _LEFT + slot * (n + 0.5), 0.0, 0.0
        for one, value in zip(series, values, strict=True):
            begin = up if value >= 0 else down
            opacity = 0.55 if is_last_open and n == len(labels) - 1 else 1.0
            parts.append(
                _bar(
                    (middle, slot),
                    (scale.y(begin), scale.y(begin + value)),
                    (one.colour, opacity),
                    f"{label} · {one.name}: {say(value)}",
                )
            )
            up, down = (up + value, down) if value >= 0 else (up, down + value)
        parts.append(_text(middle, HEIGHT - 8, label, "middle"))
    return _svg(parts, HEIGHT, f"Columns: {', '.join(one.name for one in series)}")


def line(values: Sequence[float], labels: Sequence[str], say: Say, *, colour: str, name: str) -> Markup:
    """One line with its area below and its last value said."""
    scale = _Scale.over(min([0.0, *values]), max([0.0, *values]))
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    points = [(_LEFT + slot * (n + 0.5), scale.y(value)) for n, value in enumerate(values)]
    parts = [scale.grid(say)]
    parts += [_text(_LEFT + slot * (n + 0.5), HEIGHT - 8, label, "middle") for n, label in enumerate(labels)]
    if points:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        area = f"{points[0][0]:.1f},{scale.y(0):.1f} {path} {points[-1][0]:.1f},{scale.y(0):.1f}"
        parts.append(Markup('<polygon points="{}" fill="var({})" opacity=".12"/>').format(area, colour))
        parts.append(Markup('<polyline points="{}" fill="none" stroke="var({})" stroke-width="2.5"/>').format(path, colour))
        for (x, y), label, value in zip(points, labels, values, strict=True):
            parts.append(_DOT.format(x, y, colour, f"{label} · {name}: {say(value)}"))
    return _svg(parts, HEIGHT, name)


def bridge(steps: Sequence[Step], say: Say) -> Markup:
    """From one level to another, each change hanging where the one before ended."""
    tops, level = [], 0.0
    for step in steps:
        tops.append((0.0, step.value) if step.is_level else (level, level + step.value))
        level = tops[-1][1]
    low, high = min([0.0, *(min(top) for top in tops)]), max([0.0, *(max(top) for top in tops)])
    scale = _Scale.over(low, high + (high - low) * 0.06)  # room for the words above
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(steps))
    parts = [scale.grid(say)]
    for n, (step, (begin, end)) in enumerate(zip(steps, tops, strict=True)):
        middle = _LEFT + slot * (n + 0.5)
        colour = "--level" if step.is_level else "--good" if step.value >= 0 else "--bad"
        parts.append(_bar((middle, slot), (scale.y(begin), scale.y(end)), (colour, 1.0), f"{step.name}: {say(step.value)}"))
        said = say(step.value) if step.is_level else f"{'+' if step.value > 0 else ''}{say(step.value)}" if step.value else "0"
        parts.append(_text(middle, min(scale.y(begin), scale.y(end)) - 4, said, "middle", "value"))
        parts.append(_text(middle, HEIGHT - 8, step.name, "middle"))
    return _svg(parts, HEIGHT, "Bridge")


def spark(values: Sequence[float]) -> Markup:
    """A line as small as a word."""
    if len(values) < 2 or max(values) <= 0:
        return Markup("")
    high = max(values)
    points = " ".join(f"{4 + 112 * n / (len(values) - 1):.1f},{24 - 20 * value / high:.1f}" for n, value in enumerate(values))
    x, y = points.split()[-1].split(",")
    return Markup(
        '<svg class="spark" viewBox="0 0 120 28" role="img" aria-label="trend"><polyline points="{}" fill="none" '
        'stroke="var(--usage)" stroke-width="2"/><circle cx="{}" cy="{}" r="3" fill="var(--usage)"/></svg>'
    ).format(points, x, y)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    low: float
    high: float
    step: float

    @classmethod
    def over(cls, low: float, high: float) -> "_Scale":
        """Round marks around everything; never empty."""
        span = (high - low) or 1.0
        size = 10.0 ** floor(log10(span / 4))
        step = next(size * factor for factor in _STEPS if size * factor >= span / 4)
        bottom = step * floor(low / step)
        top = bottom
        while top < high or top <= bottom:
            top += step
        return cls(low=bottom, high=top, step=step)

    def y(self, value: float) -> float:
        """Where it is drawn."""
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)

    def grid(self, say: Say) -> Markup:
        """Lines with what they stand for."""
        count = round((self.high - self.low) / self.step)
        marks = [self.low + self.step * n for n in range(count + 1)]
        return Markup("").join(
            _RULE.format(_LEFT, WIDTH - _RIGHT, self.y(mark), self.y(mark), "zero" if abs(mark) < self.step / 2 else "grid")
            + _text(_LEFT - 8, self.y(mark) + 3.5, say(mark), "end")
            for mark in marks
        )


def _across(series: Sequence[Series]) -> list[tuple[float, ...]]:
    return list(zip(*(one.values for one in series), strict=True))


def _bar(place: tuple[float, float], ends: tuple[float, float], paint: tuple[str, float], title: str) -> Markup:
    """`place` is the middle of the column and how wide it may be."""
    width = min(_WIDEST_BAR, place[1] * 0.68)
    return _BAR.format(place[0] - width / 2, min(ends), width, abs(ends[1] - ends[0]), *paint, title)


def _text(x: float, y: float, words: str, anchor: str, kind: str = "label") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, kind, words)


def _svg(parts: Sequence[Markup], height: int, name: str) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, height, escape(name))
    return head + Markup("").join(parts) + Markup("</svg>")
