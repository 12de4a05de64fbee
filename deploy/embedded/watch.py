"""`vlaapi status --watch`: the Operations numbers live in the terminal, read from `/metrics`, so that Prometheus may be absent.

Rates are over the last minute, or since the watching began. Reads and draws; what a number means is in `figures.py`.
"""

import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.embedded.figures import Figures, Reading, figures, reading_of
from deploy.embedded.screen import table
from deploy.embedded.status import Status, read_status

EVERY_S = 2.0
_WINDOW_S = 60.0
_OBJECTIVE_MS, _ALERT_MS = 200, 500  # docs/MONITORING.md
_LOW_SHARE, _BAD_SHARE = 0.99, 0.95
_BARS = "▁▂▃▄▅▆▇█"


def watch(root: Path, console: Console, *, is_over: Callable[[], bool] = lambda: False) -> None:
    """Draws until Ctrl-C, or until the service is gone. Where the output is no terminal it prints one picture after the other."""
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        for picture in _pictures(root):
            live.update(picture, refresh=True)
            if is_over():
                return
            time.sleep(EVERY_S)


def _pictures(root: Path) -> Iterator[RenderableType]:
    readings: deque[Reading] = deque()
    per_minute: deque[float] = deque(maxlen=60)
    while (status := read_status(root)) is not None:
        try:
            now = read_metrics(status.url)
        except OSError as error:
            yield Group(_head(status), Text(f"  no answer from {status.url}/metrics: {error}", style="red"), table(status))
            continue
        while readings and readings[0].at_s < now.at_s - _WINDOW_S:
            readings.popleft()
        found = figures(readings[0] if readings else None, now)
        recent = figures(readings[-1] if readings else None, now)
        per_minute.append(recent.requests_per_minute or 0)
        readings.append(now)
        yield picture(status, found, list(per_minute))


def read_metrics(url: str) -> Reading:
    """What the API processes and the worker say now. Raises OSError when they do not answer."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5.0) as answer:  # noqa: S310 -- the service's own address
        return reading_of(answer.read().decode(), at_s=time.monotonic())


def picture(status: Status, found: Figures, per_minute: list[float]) -> RenderableType:
    """One screen."""
    panels = [
        Panel(_traffic(found, per_minute), title="motions", title_align="left", width=46),
        Panel(_behind(found), title="behind them", title_align="left", width=46),
        Panel(_rates(found.decisions_per_minute, "no motion was judged"), title="guard, a minute", title_align="left", width=46),
        Panel(_rates(found.errors_per_minute, "none"), title="errors, a minute", title_align="left", width=46),
    ]
    notes = [Text(f"  note: {note}", style="yellow") for note in status.notes]
    return Group(_head(status), Columns(panels, padding=(0, 1)), table(status), *notes)


def _head(status: Status) -> Text:
    style = "bold green" if status.state.value == "ready" else "bold yellow"
    return Text.assemble(
        ("vlaapi ", "bold"), (status.state.value, style), f"  {status.url}  {time.strftime('%H:%M:%S')}  Ctrl-C ends"
    )


def _traffic(found: Figures, per_minute: list[float]) -> Table:
    share, p99 = found.success_share, found.p99_ms
    rows = _grid()
    rows.add_row("requests/min", _said(found.requests_per_minute, "{:,.0f}"), Text(_line(per_minute), style="cyan"))
    rows.add_row("success rate", _said(share, "{:.2%}", _colour(share, good=_LOW_SHARE, bad=_BAD_SHARE)))
    rows.add_row("average latency", _said(found.mean_ms, "{:,.1f} ms", _colour(found.mean_ms, good=_OBJECTIVE_MS, bad=_ALERT_MS)))
    rows.add_row("p99 latency", _said(p99, "{:,.1f} ms", _colour(p99, good=_OBJECTIVE_MS, bad=_ALERT_MS)))
    rows.add_row("in flight", str(found.in_flight))
    rows.add_row("active customers", str(found.active_customers), Text(_spikes(found), style="yellow"))
    return rows


def _behind(found: Figures) -> Table:
    rows = _grid()
    rows.add_row("fair queue", str(found.waiting))
    rows.add_row("usage stream", f"{found.stream_length:,}", f"oldest {found.stream_oldest_s:,.1f} s")
    rows.add_row("spooled", _said(found.spooled, "{:,}", "yellow" if found.spooled else ""))
    dead = ", ".join(f"{count} {kind}" for kind, count in sorted(found.dead.items()) if count)
    rows.add_row("given up", Text(dead or "nothing", style="red" if dead else ""))
    for replica, state in sorted(found.replicas.items()):
        rows.add_row(f"triton {replica.rpartition(':')[2]}", Text(state, style="" if state == "serving" else "red"))
    return rows


def _rates(rates: Mapping[str, float], nothing: str) -> RenderableType:
    if not any(rates.values()):
        return Text(nothing, style="dim")
    rows = _grid()
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        rows.add_row(name, f"{rate:,.1f}")
    return rows


def _grid() -> Table:
    return Table.grid(padding=(0, 2))


def _said(value: float | None, form: str, style: str = "") -> Text:
    return Text("—", style="dim") if value is None else Text(form.format(value), style=style)


def _colour(value: float | None, *, good: float, bad: float) -> str:
    """Green up to `good`, red from `bad` on, whichever of them is the larger."""
    if value is None:
        return ""
    towards = 1 if bad > good else -1
    return "green" if towards * value <= towards * good else "red" if towards * value >= towards * bad else "yellow"


def _spikes(found: Figures) -> str:
    return f"{found.spiking_customers} far above usual" if found.spiking_customers else ""


def _line(values: list[float]) -> str:
    most = max(values, default=0)
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] for value in values[-12:]) if most else ""
