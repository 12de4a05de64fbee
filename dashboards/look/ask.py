"""Asks what a panel asks, as Grafana would: variables and macros are filled in, then Prometheus or PostgreSQL answers.

Reads the JSON files, not the code that writes them. Prometheus over HTTP, PostgreSQL as whatever user the connection has.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx

POINTS = 240  # along the time axis of one panel


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What is looked at. `rate_window` is what `$__rate_interval` stands for."""

    start: datetime
    end: datetime
    rate_window: str = "1m"

    @property
    def step_s(self) -> float:
        """Seconds between two points."""
        return max((self.end - self.start).total_seconds() / POINTS, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values over time, oldest first."""

    name: str
    points: tuple[tuple[float, float], ...]  # Unix seconds, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of what was asked for."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


Answer = Table | tuple[Series, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Who answers."""

    prometheus: httpx.AsyncClient
    postgres: "asyncpg.Connection"


async def choose(sources: Sources, board: Mapping[str, Any], period: Period) -> dict[str, str]:
    """The first value of each of a dashboard's variables, which is what Grafana chooses."""
    chosen: dict[str, str] = {}
    for variable in board["templating"]["list"]:
        rows = await sources.postgres.fetch(filled(variable["query"], chosen, period))
        chosen[variable["name"]] = str(rows[0][0]) if rows else ""
    return chosen


async def answer(sources: Sources, target: Mapping[str, Any], chosen: Mapping[str, str], period: Period) -> Answer:
    """One target's answer. Whatever the source raises is raised: a question that cannot be asked is a fault of the dashboard."""
    if "expr" in target:
        return await _from_prometheus(sources.prometheus, target, filled(target["expr"], chosen, period), period)
    rows = await sources.postgres.fetch(filled(target["rawSql"], chosen, period))
    columns = tuple(rows[0].keys()) if rows else ()
    table = Table(columns=columns, rows=tuple(tuple(row.values()) for row in rows))
    return table if target["format"] == "table" else _as_series(table)


def filled(text: str, chosen: Mapping[str, str], period: Period) -> str:
    """The text with Grafana's macros and the chosen values in it. Raises ValueError for a `$` that nothing fills."""
    macros = {
        "$__timeFrom()": _literal(period.start.isoformat()),
        "$__timeTo()": _literal(period.end.isoformat()),
        "$__rate_interval": period.rate_window,
        "$__interval_ms": str(round(period.step_s * 1000)),
    }
    for name, value in chosen.items():
        macros |= {f"${{{name}:sqlstring}}": _literal(value), f"${name}": value}
    for macro, value in macros.items():
        text = text.replace(macro, value)
    if left := re.search(r"\$\{?[A-Za-z_]+", text):
        raise ValueError(f"nothing fills {left.group()} in {text}")
    return text


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


async def _from_prometheus(client: httpx.AsyncClient, target: Mapping[str, Any], expr: str, period: Period) -> tuple[Series, ...]:
    if target["instant"]:
        response = await client.get("/api/v1/query", params={"query": expr, "time": period.end.timestamp()})
    else:
        span = {"start": period.start.timestamp(), "end": period.end.timestamp(), "step": period.step_s}
        response = await client.get("/api/v1/query_range", params={"query": expr, **span})
    found = response.json()
    if found["status"] != "success":
        raise ValueError(f"{found['error']} in {expr}")
    result = found["data"]["result"]
    if found["data"]["resultType"] == "scalar":
        result = [{"metric": {}, "value": result}]
    return tuple(_one(entry, target["legendFormat"]) for entry in result)


def _one(entry: Mapping[str, Any], legend: str) -> Series:
    labels = entry["metric"]
    automatic = ", ".join(f"{name}={value}" for name, value in labels.items() if name != "__name__") or "value"
    name = automatic if legend == "__auto" else re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend)
    pairs = entry.get("values") or [entry["value"]]
    points = tuple((float(at), float(value)) for at, value in pairs)
    return Series(name=name.strip(), points=tuple(point for point in points if point[1] == point[1]))


def _as_series(table: Table) -> tuple[Series, ...]:
    """A column `metric` names the series (long form); else every other column is one."""
    if not table.rows:
        return ()
    at = table.columns.index("time")
    found: dict[str, list[tuple[float, float]]] = {}
    long_form = table.columns.index("metric") if "metric" in table.columns else None
    for row in table.rows:
        instant = row[at]
        if not isinstance(instant, datetime):
            raise TypeError(f"time is {type(instant).__name__}")
        for column, value in zip(table.columns, row, strict=True):
            if column in {"time", "metric"} or value is None:
                continue
            name = column if long_form is None else str(row[long_form])
            found.setdefault(name, []).append((instant.timestamp(), number(value)))
    return tuple(Series(name=name, points=tuple(sorted(points))) for name, points in found.items())


def number(value: object) -> float:
    """A cell as a number. Raises TypeError for anything else."""
    if isinstance(value, int | float | Decimal):
        return float(value)
    raise TypeError(f"{value!r} is not a number")


def is_empty(found: Answer) -> bool:
    """Whether there is nothing to draw."""
    if isinstance(found, Table):
        return not found.rows or all(cell is None for row in found.rows for cell in row)
    return not any(series.points for series in found)


def period_of(board: Mapping[str, Any], *, now: datetime | None = None, rate_window: str = "1m") -> Period:
    """The time that a dashboard opens with."""
    end = now or datetime.now(UTC)
    amount, unit = re.fullmatch(r"now-(\d+)([hdy])", board["time"]["from"]).groups()  # type: ignore[union-attr]  # ours
    length = {"h": timedelta(hours=1), "d": timedelta(days=1), "y": timedelta(days=365)}[unit] * int(amount)
    return Period(start=end - length, end=end, rate_window=rate_window)


def period_of_panel(panel: Mapping[str, Any], period: Period) -> Period:
    """The dashboard's, unless the panel looks further back."""
    if "timeFrom" not in panel:
        return period
    return replace(period, start=period.end - timedelta(days=int(panel["timeFrom"].removesuffix("d"))))


async def answers_of(sources: Sources, panel: Mapping[str, Any], chosen: Mapping[str, str], period: Period) -> list[Answer]:
    """One answer for each of a panel's targets."""
    own = period_of_panel(panel, period)
    return [await answer(sources, target, chosen, own) for target in panel["targets"]]


def panels_of(board: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Every panel that asks something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]
