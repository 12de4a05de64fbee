"""What a dashboard is, as values: rows of panels, each with its questions, unit, range, thresholds and legend.

A panel cannot be made without saying what it means and what is good or bad. Knows nothing of Grafana's JSON: `grafana.py` does.
"""

from dataclasses import dataclass, field
from enum import StrEnum

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"


class Kind(StrEnum):
    """How a panel is drawn; Grafana's own names."""

    STAT = "stat"
    SERIES = "timeseries"
    TABLE = "table"
    BARS = "bargauge"
    PIE = "piechart"
    GAUGE = "gauge"


class Source(StrEnum):
    """Who is asked; the uids of the provisioned data sources."""

    PROMETHEUS = "vlaapi-prometheus"
    POSTGRES = "vlaapi-postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question. `is_now`: only the newest value is wanted, not its course. SQL series have a column `time` (and `metric`)."""

    text: str
    source: Source
    legend: str = ""
    is_now: bool = False
    is_table: bool = False


def promql(text: str, legend: str = "", *, is_now: bool = False) -> Ask:
    """A question to Prometheus."""
    return Ask(text=text, source=Source.PROMETHEUS, legend=legend, is_now=is_now)


def sql(text: str, *, is_series: bool = False) -> Ask:
    """A question to PostgreSQL, as the reader who sees the schema `dashboards` only."""
    return Ask(text=" ".join(text.split()), source=Source.POSTGRES, is_now=not is_series, is_table=not is_series)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From this value on, this colour."""

    at: float
    color: str


def good_below(orange: float, red: float) -> tuple[Step, ...]:
    """Less is better."""
    return (Step(at=orange, color=ORANGE), Step(at=red, color=RED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Colours: `base` below the first step. `is_line`: the steps are drawn as lines through a graph."""

    base: str
    steps: tuple[Step, ...] = ()
    is_line: bool = False


PLAIN = Scale(base=BLUE)


def below(orange: float, red: float, *, is_line: bool = False) -> Scale:
    """Green, from `orange` on a warning, from `red` on bad."""
    return Scale(base=GREEN, steps=good_below(orange, red), is_line=is_line)


def above(orange: float, green: float) -> Scale:
    """Bad, from `orange` on a warning, from `green` on good."""
    return Scale(base=RED, steps=(Step(at=orange, color=ORANGE), Step(at=green, color=GREEN)))


def none_is_good() -> Scale:
    """Anything above 0 is bad."""
    return Scale(base=GREEN, steps=(Step(at=1e-9, color=RED),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How one column of a table is shown. `bar_to`: as a bar up to that value."""

    name: str
    unit: str
    label: str = ""
    decimals: int | None = None
    scale: Scale | None = None
    bar_to: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `means` is shown when a person points at it. `low`/`high` None: as far as the numbers go."""

    title: str
    means: str
    kind: Kind
    asks: tuple[Ask, ...]
    unit: str
    width: int
    height: int = 8
    low: float | None = 0.0
    high: float | None = None
    decimals: int | None = None
    scale: Scale = PLAIN
    columns: tuple[Column, ...] = ()
    when_empty: str = "nothing yet"
    is_stacked: bool = False
    is_bars: bool = False
    has_points: bool = False  # few values, such as months
    since: str | None = None  # looks further back than the dashboard does, as in "30d"
    has_graph: bool = True  # a stat's course behind its number
    is_text: bool = False  # a stat that says a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under one title, from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """What a person may choose at the top. The first value is chosen; `all_of` is the expression that stands for everything."""

    name: str
    label: str
    ask: Ask
    all_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    means: str
    since: str
    refresh: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = field(default=())
