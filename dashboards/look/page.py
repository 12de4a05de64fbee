"""A whole dashboard as one HTML page: every panel in its place on Grafana's grid of 24 columns and 30-pixel lines."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dashboards.look.ask import Answer, Period, period_of_panel
from dashboards.look.draw import drawn

WIDTH = 1680
_COLUMN, _LINE, _GAP = WIDTH / 24, 38, 8
_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page(board: Mapping[str, Any], answers: Mapping[int, Sequence[Answer]], chosen: Mapping[str, str], period: Period) -> str:
    """`answers` by panel id."""
    said = f"{period.start:%Y-%m-%d %H:%M} to {period.end:%H:%M} UTC"
    choice = " · ".join(f"{name}: {value}" for name, value in chosen.items())
    placed = "".join(_placed(panel, answers.get(panel["id"], ()), chosen, period) for panel in board["panels"])
    return (
        f'<!doctype html><meta charset="utf-8"><title>{escape(board["title"])}</title><style>{_STYLE}</style>'
        f"<header>{escape(board['title'])}<small>{escape(choice)} · {said}</small></header>"
        f'<main style="width:{WIDTH}px;height:{height(board)}px">{placed}</main>'
    )


def height(board: Mapping[str, Any]) -> int:
    """Pixels of the page below its header."""
    lowest: int = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    return lowest * _LINE + _GAP


def _placed(panel: Mapping[str, Any], answers: Sequence[Answer], chosen: Mapping[str, str], period: Period) -> str:
    place, title = panel["gridPos"], panel["title"]
    for name, value in chosen.items():
        title = title.replace(f"${name}", value)
    left, top = place["x"] * _COLUMN, place["y"] * _LINE
    if panel["type"] == "row":
        return f'<div class="row" style="top:{top}px">▾ {escape(title)}</div>'
    wide, high = round(place["w"] * _COLUMN - _GAP), place["h"] * _LINE - _GAP
    inside = drawn(panel, answers, period_of_panel(panel, period), width=wide - 14, height=high - 34)
    where = f"left:{left + _GAP / 2}px;top:{top}px;width:{wide}px;height:{high}px"
    return f'<div class="panel" style="{where}"><h2>{escape(title)}</h2><div class="inside">{inside}</div></div>'
