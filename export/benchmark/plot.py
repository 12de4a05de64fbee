"""The curve as a picture: latency percentiles against throughput, and where the time of an average request goes.

Draws into an image of its own, without matplotlib's global state. Needs matplotlib; nothing else here does.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from export.benchmark.plot_labels import name_levels
from export.benchmark.result import Level, Mode, Result

_PERCENTILES = {"p50_us": ("p50", "#1b6ca8"), "p90_us": ("p90", "#e08a1e"), "p99_us": ("p99", "#b3261e")}
_STYLES = {Mode.CONCURRENCY: ("o", "-", "clients"), Mode.REQUEST_RATE: ("s", "--", "requests/s")}
LEAST_FOR_A_LINE = 3  # between two points nothing was measured
_PARTS = {
    "queue": "#e08a1e",
    "compute input": "#9ecae1",
    "compute infer": "#1b6ca8",
    "compute output": "#6baed6",
    "network + Triton's front": "#a5a5a5",
    "client, with lag": "#d9d9d9",
}


def write_plot(result: Result, path: Path) -> None:
    """Writes a PNG of 1500×620 pixels."""
    figure = Figure(figsize=(12.5, 5.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    curve, breakdown = figure.subplots(1, 2)
    draw_curve(curve, result.levels)
    if result.in_process is not None:
        curve.axhline(result.in_process.p50_us / 1000, color="#555555", linestyle=":", linewidth=1, label="p50, in process")
    curve.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.13))  # below: it covers nothing
    _draw_breakdown(breakdown, result.levels)
    figure.suptitle(
        f"{result.policy} {result.version} ({result.variant}), Triton {result.triton['version']}, "
        f"batch {result.settings['batch_size']} · {result.machine.cpus}× {result.machine.cpu}",
        fontsize=10,
    )
    figure.draw_without_rendering()  # from here on it is known where everything lies
    figure.set_layout_engine("none")
    name_levels(curve, result.levels)
    figure.savefig(path)


def draw_curve(axes: Axes, levels: Sequence[Level]) -> None:
    """Percentiles of each mode; a line only where there are levels enough for one."""
    for mode, (marker, line, words) in _STYLES.items():
        chosen = [level for level in levels if level.mode is mode]
        rates = [level.figures.inferences_per_s for level in chosen]
        for field, (name, colour) in _PERCENTILES.items() if chosen else ():
            values = [getattr(level.figures.latency, field) / 1000 for level in chosen]
            style = line if len(chosen) >= LEAST_FOR_A_LINE else "none"
            axes.plot(rates, values, marker=marker, linestyle=style, color=colour, label=f"{name}, {words}", markersize=4)
    axes.set(title="latency by throughput", xlabel="inferences per second", ylabel="milliseconds")
    axes.margins(x=0.1, y=0.15)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _draw_breakdown(axes: Axes, levels: Sequence[Level]) -> None:
    places = range(len(levels))
    bottom = [0.0] * len(levels)
    for name, values in zip(_PARTS, zip(*(_parts_ms(level) for level in levels), strict=True), strict=True):
        axes.bar(places, values, bottom=bottom, label=name, color=_PARTS[name], width=0.6)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set_xticks(places, [f"{level.value:g}\n{_STYLES[level.mode][2]}" for level in levels], fontsize=8)
    axes.set(title="an average request", ylabel="milliseconds", ylim=(0, max(bottom) * 1.25))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, ncols=2, loc="upper left")


def _parts_ms(level: Level) -> tuple[float, ...]:
    server, client = level.server, level.figures.client
    own = client.send_us + client.recv_us + client.lag_avg_us
    parts = (server.queue_us, server.compute_input_us, server.compute_infer_us, server.compute_output_us, level.network_us, own)
    return tuple(value / 1000 for value in parts)
