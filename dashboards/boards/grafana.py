"""From a `Board` to Grafana's classic JSON (schema 41: read by 11, 12 and 13; the newer format is refused by file provisioning).

Panels flow from left to right in a grid of 24 columns. Knows no metric and no table.
"""

import json
from collections.abc import Iterator
from typing import Any

from dashboards.boards.board import Ask, Board, Column, Kind, Panel, Row, Scale, Source, Variable

SCHEMA_VERSION = 41
COLUMNS = 24
TAG = "vlaapi"
_TYPES = {Source.PROMETHEUS: "prometheus", Source.POSTGRES: "grafana-postgresql-datasource"}

Json = dict[str, Any]


def written(board: Board) -> str:
    """The file's text."""
    return json.dumps(_board(board), indent=1, ensure_ascii=False) + "\n"


def _board(board: Board) -> Json:
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.means,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": board.refresh,
        "time": {"from": board.since, "to": "now"},
        "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m", "15m", "1h"]},
        "templating": {"list": [_variable(variable) for variable in board.variables]},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "vlaapi",
                "tags": [TAG],
                "asDropdown": False,
                "includeVars": False,
                "keepTime": False,
                "targetBlank": False,
            }
        ],
        "panels": list(_placed(board)),
    }


def _placed(board: Board) -> Iterator[Json]:
    y, number = 0, 0
    for row in board.rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        y += 1
        for panel, x, down in _flow(row):
            number += 1
            yield _panel(panel, number, {"x": x, "y": y + down, "w": panel.width, "h": panel.height})
        y += sum(height for _, height in _lines(row))


def _lines(row: Row) -> Iterator[tuple[tuple[Panel, ...], int]]:
    """The row's panels, line by line, with the height of each line."""
    line: list[Panel] = []
    for panel in row.panels:
        if sum(other.width for other in line) + panel.width > COLUMNS:
            yield tuple(line), max(other.height for other in line)
            line = []
        line.append(panel)
    yield tuple(line), max(other.height for other in line)


def _flow(row: Row) -> Iterator[tuple[Panel, int, int]]:
    down = 0
    for line, height in _lines(row):
        x = 0
        for panel in line:
            yield panel, x, down
            x += panel.width
        down += height


def _panel(panel: Panel, number: int, place: Json) -> Json:
    source = panel.asks[0].source
    return {
        "id": number,
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.means,
        "gridPos": place,
        "datasource": _source(source),
        "targets": [_target(ask, chr(ord("A") + index)) for index, ask in enumerate(panel.asks)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": [_override(column) for column in panel.columns]},
        "options": _options(panel),
        "transformations": [],
    } | ({} if panel.since is None else {"timeFrom": panel.since})


def _source(source: Source) -> Json:
    return {"type": _TYPES[source], "uid": source.value}


def _target(ask: Ask, name: str) -> Json:
    common: Json = {"refId": name, "datasource": _source(ask.source), "editorMode": "code"}
    match ask.source:
        case Source.PROMETHEUS:
            return common | {
                "expr": ask.text,
                "legendFormat": ask.legend or "__auto",
                "range": not ask.is_now,
                "instant": ask.is_now,
                "format": "time_series",
            }
        case Source.POSTGRES:
            return common | {"rawQuery": True, "rawSql": ask.text, "format": "table" if ask.is_table else "time_series"}


def _defaults(panel: Panel) -> Json:
    found: Json = {
        "unit": panel.unit,
        "noValue": panel.when_empty,
        "color": {"mode": "palette-classic" if panel.kind in (Kind.SERIES, Kind.PIE) else "thresholds"},
        "thresholds": _thresholds(panel.scale),
        "mappings": [],
    }
    for name, value in (("min", panel.low), ("max", panel.high), ("decimals", panel.decimals)):
        if value is not None:
            found[name] = value
    if panel.kind is Kind.SERIES:
        found["custom"] = _drawing(panel)
    return found


def _drawing(panel: Panel) -> Json:
    return {
        "drawStyle": "bars" if panel.is_bars else "line",
        "lineWidth": 1 if panel.is_bars else 2,
        "fillOpacity": 70 if panel.is_bars else 25 if panel.is_stacked else 5,
        "showPoints": "always" if panel.has_points else "never",
        "pointSize": 8,
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if panel.scale.is_line else "off"},
        "axisSoftMin": 0,
    }


def _thresholds(scale: Scale) -> Json:
    steps: list[Json] = [{"color": scale.base, "value": None}]
    return {"mode": "absolute", "steps": steps + [{"color": step.color, "value": step.at} for step in scale.steps]}


def _override(column: Column) -> Json:
    properties: list[Json] = [{"id": "unit", "value": column.unit}]
    if column.label:
        properties.append({"id": "displayName", "value": column.label})
    if column.decimals is not None:
        properties.append({"id": "decimals", "value": column.decimals})
    if column.scale is not None:
        properties.append({"id": "thresholds", "value": _thresholds(column.scale)})
        if column.bar_to is None:
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    if column.bar_to is not None:
        properties += [
            {"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}},
            {"id": "min", "value": 0},
            {"id": "max", "value": column.bar_to},
        ]
    return {"matcher": {"id": "byName", "options": column.name}, "properties": properties}


def _options(panel: Panel) -> Json:
    match panel.kind:
        case Kind.SERIES:
            return {
                "legend": {"showLegend": True, "displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case Kind.TABLE:
            return {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}}
        case Kind.PIE:
            legend = {"showLegend": True, "displayMode": "table", "placement": "right", "values": ["value", "percent"]}
            return {"legend": legend, "pieType": "donut", "reduceOptions": _reduce(panel, is_each_row=True)}
        case Kind.BARS:
            return {
                "orientation": "horizontal",
                "displayMode": "basic",
                "valueMode": "color",
                "showUnfilled": True,
                "legend": {"showLegend": False},
                "reduceOptions": _reduce(panel, is_each_row=panel.asks[0].is_table),
            }
        case Kind.GAUGE:
            return {"showThresholdLabels": False, "showThresholdMarkers": True, "reduceOptions": _reduce(panel)}
        case Kind.STAT:
            return {
                "colorMode": "value",
                "graphMode": "area" if panel.has_graph and not panel.is_text else "none",
                "justifyMode": "auto",
                "textMode": "value" if len(panel.asks) == 1 else "value_and_name",
                "wideLayout": True,
                "reduceOptions": _reduce(panel),
            }


def _reduce(panel: Panel, *, is_each_row: bool = False) -> Json:
    return {"calcs": ["lastNotNull"], "fields": "/.*/" if panel.is_text else "", "values": is_each_row}


def _variable(variable: Variable) -> Json:
    ask = variable.ask
    query: Any = ask.text if ask.source is Source.POSTGRES else {"query": ask.text, "refId": f"variable-{variable.name}"}
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.label,
        "datasource": _source(ask.source),
        "definition": ask.text,
        "query": query,
        "refresh": 2,
        "sort": 0,
        "hide": 0,
        "multi": False,
        "includeAll": variable.all_of is not None,
        "allValue": variable.all_of,
        "skipUrlSync": False,
    }
