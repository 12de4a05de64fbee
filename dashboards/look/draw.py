"""One panel's answers as HTML with SVG in it, about as Grafana draws that kind of panel. Knows no source."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from dashboards.look.ask import Answer, Period, Table, is_empty, number
from dashboards.look.graph import PALETTE, css, graph
from dashboards.look.units import color_of, shown

Panel = Mapping[str, Any]


def drawn(panel: Panel, answers: Sequence[Answer], period: Period, *, width: int, height: int) -> str:
    """The inside of the panel."""
    if all(map(is_empty, answers)):
        return f'<div class="none">{escape(panel["fieldConfig"]["defaults"]["noValue"])}</div>'
    draw = _KINDS[panel["type"]]
    return draw(panel, answers, period, width, height)


def _figures(panel: Panel, answers: Sequence[Answer]) -> list[tuple[str, object, tuple[tuple[float, float], ...]]]:
    """Name, newest value and course of everything that a stat, gauge or bar shows."""
    found: list[tuple[str, object, tuple[tuple[float, float], ...]]] = []
    for answer in answers:
        if isinstance(answer, Table):
            is_each_row = panel["options"]["reduceOptions"]["values"]
            for row in answer.rows if is_each_row else answer.rows[-1:]:
                label = str(row[0]) if is_each_row else answer.columns[0]
                found.append((label, row[-1], ()))
        else:
            found += [(series.name, series.points[-1][1], series.points) for series in answer if series.points]
    return found


def _stat(panel: Panel, answers: Sequence[Answer], period: Period, width: int, height: int) -> str:
    field, figures = panel["fieldConfig"]["defaults"], _figures(panel, answers)
    parts = []
    for name, value, points in figures:
        color = css(color_of(value, field))
        spark = (
            _spark(points, period, width, height, color) if panel["options"]["graphMode"] == "area" and len(points) > 1 else ""
        )
        label = f"<small>{escape(name)}</small>" if panel["options"]["textMode"] == "value_and_name" else ""
        size = min(38, round(width / (0.62 * max(len(shown(value, field)), 1)) / len(figures)), max(18, height - 50))
        parts.append(
            f'{spark}<div class="stat" style="color:{color};font-size:{size}px">{label}{escape(shown(value, field))}</div>'
        )
    return f'<div class="stats">{"".join(parts)}</div>'


def _spark(points: Sequence[tuple[float, float]], period: Period, width: int, height: int, color: str) -> str:
    top = max(value for _, value in points) or 1.0
    start, length = period.start.timestamp(), period.end.timestamp() - period.start.timestamp()
    path = " ".join(f"{(at - start) / length * width:.1f},{height - value / top * height * 0.4:.1f}" for at, value in points)
    line = f'<polyline points="{path}" fill="none" stroke="{color}" opacity=".5"/>'
    return f'<svg class="spark" width="{width}" height="{height}">{line}</svg>'


def _bars(panel: Panel, answers: Sequence[Answer], _period: Period, width: int, _height: int) -> str:
    field, figures = panel["fieldConfig"]["defaults"], _figures(panel, answers)
    top = field.get("max") or max((number(value) for _, value, _ in figures), default=1.0) or 1.0
    lines = []
    for name, value, _ in figures:
        color, share = css(color_of(value, field)), min(number(value) / top, 1.0) * 100
        bar = f'<div class="bar"><div style="width:{share:.1f}%;background:{color}"></div></div>'
        figure = f'<td style="color:{color}">{shown(value, field)}</td>'
        lines.append(f'<tr><td>{escape(name)}</td><td width="{width // 2}">{bar}</td>{figure}</tr>')
    return f"<table>{''.join(lines)}</table>"


def _pie(panel: Panel, answers: Sequence[Answer], _period: Period, _width: int, _height: int) -> str:
    field, figures = panel["fieldConfig"]["defaults"], _figures(panel, answers)
    total, at, slices, legend = sum(number(value) for _, value, _ in figures) or 1.0, 0.0, "", ""
    for index, (name, value, _) in enumerate(figures):
        share, color = number(value) / total * 100, PALETTE[index % len(PALETTE)]
        slices += (
            f'<circle r="15.9" cx="21" cy="21" fill="none" stroke="{color}" stroke-width="7" '
            f'stroke-dasharray="{share:.2f} {100 - share:.2f}" stroke-dashoffset="{25 - at:.2f}"/>'
        )
        at += share
        label = f'<i style="background:{color}"></i>{escape(name)}'
        legend += f"<tr><td>{label}</td><td>{shown(value, field)}</td><td>{share:.0f}%</td></tr>"
    return f'<div class="pie"><svg viewBox="0 0 42 42" width="130">{slices}</svg><table>{legend}</table></div>'


def _gauge(panel: Panel, answers: Sequence[Answer], _period: Period, _width: int, _height: int) -> str:
    field, (_, value, _) = panel["fieldConfig"]["defaults"], _figures(panel, answers)[0]
    low, high = field.get("min", 0.0), field.get("max", 1.0)
    share = max(0.0, min(1.0, (number(value) - low) / (high - low)))
    color = css(color_of(value, field))
    arc = '<path d="M10 55 A45 45 0 0 1 100 55" pathLength="100" stroke="{}" stroke-dasharray="{} 100"/>'
    text = f'<text x="55" y="54" text-anchor="middle" style="fill:{color};font-size:12px">{shown(value, field)}</text>'
    arcs = arc.format("#2c3235", 100) + arc.format(color, f"{share * 100:.1f}")
    return f'<svg class="gauge" viewBox="0 0 110 62">{arcs}{text}</svg>'


def _table(panel: Panel, answers: Sequence[Answer], _period: Period, _width: int, _height: int) -> str:
    table = answers[0]
    if not isinstance(table, Table):
        raise TypeError("a table panel asks for series")
    fields = [_column(panel, name) for name in table.columns]
    head = "".join(
        f"<th>{escape(field.get('displayName', name))}</th>" for field, name in zip(fields, table.columns, strict=True)
    )
    rows = ""
    for row in table.rows:
        rows += f"<tr>{''.join(_cell(value, field) for value, field in zip(row, fields, strict=True))}</tr>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _column(panel: Panel, name: str) -> dict[str, Any]:
    """The defaults with the column's overrides."""
    field = {**panel["fieldConfig"]["defaults"]}
    field.pop("decimals", None)
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            field |= {prop["id"]: prop["value"] for prop in override["properties"]}
    return field


def _cell(value: object, field: Mapping[str, Any]) -> str:
    text = escape(shown(value, field))
    how = field.get("custom.cellOptions", {}).get("type")
    if how is None or value is None:
        return f"<td>{text}</td>"
    color = css(color_of(value, field))
    if how == "gauge":
        share = max(0.0, min(number(value) / field["max"], 1.0)) * 100
        return f'<td><div class="bar"><div style="width:{share:.1f}%;background:{color}"></div></div>{text}</td>'
    return f'<td style="color:{color}">{text}</td>'


_Draw = Callable[[Panel, Sequence[Answer], Period, int, int], str]
_KINDS: Mapping[str, _Draw] = {
    "stat": _stat,
    "timeseries": graph,
    "table": _table,
    "bargauge": _bars,
    "piechart": _pie,
    "gauge": _gauge,
}
