"""Courses over time as SVG: lines or bars, stacked or not, with a grid, threshold lines and a legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

from dashboards.look.ask import Answer, Period, Series, Table
from dashboards.look.units import shown

PALETTE = (
    *("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9"),
    *("#8ab8ff", "#c0d8ff", "#96d98d", "#ffcb7d", "#e0b400"),
)
_CSS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}


def css(color: str) -> str:
    """Grafana's names of colours as it draws them."""
    return _CSS.get(color, color)


def graph(panel: Mapping[str, Any], answers: Sequence[Answer], period: Period, width: int, height: int) -> str:
    """The inside of a `timeseries` panel."""
    named = [series for answer in answers if not isinstance(answer, Table) for series in answer if series.points]
    field, custom = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["defaults"]["custom"]
    is_stacked = custom["stacking"]["mode"] == "normal"
    layers = _stacked(named) if is_stacked else [(series, [0.0] * len(series.points)) for series in named]
    tops = [value + under for series, unders in layers for (_, value), under in zip(series.points, unders, strict=True)]
    high = field.get("max") or max(*tops, 1e-9) * 1.05
    low = min(0.0, *(value for series in named for _, value in series.points))
    legend_width = min(190, width // 3)
    box = _Box(left=58, top=6, width=width - legend_width - 70, height=height - 28, low=low, high=high, period=period)
    parts = [_grid(box, field)]
    for index, (series, unders) in enumerate(layers):
        parts.append(_course(series, unders, box, PALETTE[index % len(PALETTE)], custom))
    parts += [_threshold(step, box) for step in field["thresholds"]["steps"][1:] if custom["thresholdsStyle"]["mode"] == "line"]
    svg = f'<svg width="{width - legend_width}" height="{height}">{"".join(parts)}</svg>'
    return f'<div class="graph">{svg}{_legend(named, field, legend_width)}</div>'


def _stacked(named: Sequence[Series]) -> list[tuple[Series, list[float]]]:
    under: dict[float, float] = {}
    layers = []
    for series in named:
        layers.append((series, [under.get(at, 0.0) for at, _ in series.points]))
        for at, value in series.points:
            under[at] = under.get(at, 0.0) + value
    return layers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """The drawing area and its scales."""

    left: int
    top: int
    width: int
    height: int
    low: float
    high: float
    period: Period

    def x(self, at: float) -> float:
        return self.left + (at - self.start) / self.length * self.width

    def y(self, value: float) -> float:
        return self.top + self.height - (value - self.low) / ((self.high - self.low) or 1.0) * self.height

    @property
    def start(self) -> float:
        return self.period.start.timestamp()

    @property
    def length(self) -> float:
        return (self.period.end - self.period.start).total_seconds()


def _grid(box: _Box, field: Mapping[str, Any]) -> str:
    parts = []
    for step in range(5):
        value = box.low + (box.high - box.low) * step / 4
        y, text = box.y(value), shown(value, {**field, "decimals": field.get("decimals")})
        parts.append(f'<line x1="{box.left}" x2="{box.left + box.width}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{box.left - 6}" y="{y + 3:.1f}" text-anchor="end">{escape(text)}</text>')
    for step in range(5):
        at = box.start + box.length * step / 4
        form = "%H:%M" if box.length <= 86_400 * 2 else "%m-%d" if box.length < 86_400 * 90 else "%Y-%m"
        text = f"{datetime.fromtimestamp(at, UTC):{form}}"
        where = f'x="{box.x(at):.1f}" y="{box.top + box.height + 16}"'
        parts.append(f'<text {where} text-anchor="{"end" if step == 4 else "middle"}">{text}</text>')
    return "".join(parts)


def _course(series: Series, unders: Sequence[float], box: _Box, color: str, custom: Mapping[str, Any]) -> str:
    if custom["drawStyle"] == "bars":
        wide = max(3.0, min(24.0, box.width / (len(series.points) + 1) * 0.6))
        return "".join(
            f'<rect x="{box.x(at) - wide / 2:.1f}" y="{min(box.y(under + value), box.y(under)):.1f}" width="{wide:.1f}" '
            f'height="{abs(box.y(under) - box.y(under + value)):.1f}" fill="{color}" opacity=".8"/>'
            for (at, value), under in zip(series.points, unders, strict=True)
        )
    upper = [(box.x(at), box.y(value + under)) for (at, value), under in zip(series.points, unders, strict=True)]
    lower = [(box.x(at), box.y(under)) for (at, _), under in zip(series.points, unders, strict=True)]
    area, line = _path([*upper, *reversed(lower)]), _path(upper)
    opacity = custom["fillOpacity"] / 100
    dots = custom["showPoints"] == "always"
    points = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in upper) if dots else ""
    filled = f'<polygon points="{area}" fill="{color}" opacity="{opacity}"/>'
    return f'{points}{filled}<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _threshold(step: Mapping[str, Any], box: _Box) -> str:
    y = box.y(step["value"])
    if y < box.top:
        return ""
    where = f'x1="{box.left}" x2="{box.left + box.width}" y1="{y:.1f}" y2="{y:.1f}"'
    return f'<line {where} stroke="{css(step["color"])}" stroke-dasharray="6 4"/>'


def _legend(named: Sequence[Series], field: Mapping[str, Any], width: int) -> str:
    rows = "".join(
        f'<tr><td><i style="background:{PALETTE[index % len(PALETTE)]}"></i>{escape(series.name)}</td>'
        f"<td>{shown(series.points[-1][1], field)}</td><td>{shown(max(value for _, value in series.points), field)}</td></tr>"
        for index, series in enumerate(named)
    )
    return f'<div class="legend" style="width:{width}px"><table><tr><th></th><th>last</th><th>max</th></tr>{rows}</table></div>'
