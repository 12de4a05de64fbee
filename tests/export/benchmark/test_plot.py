"""The picture is there, of the promised size, starts at nothing, and no name in it lies on a series or on another name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from export.benchmark.plot import draw_curve, write_plot
from export.benchmark.plot_labels import drawn, name_levels
from export.benchmark.result import Level, Mode, Result
from tests.export.benchmark.making import level, result

pytestmark = pytest.mark.export
RATE = level(50, mode=Mode.REQUEST_RATE)


@pytest.mark.parametrize(
    "whole",
    [result(RATE), result(level(1), level(8), replace(RATE, is_stable=False), in_process=None)],
    ids=["one level", "both modes"],
)
def test_a_picture_shows_every_kind_of_result(whole: Result, tmp_path: Path) -> None:
    write_plot(whole, tmp_path / "benchmark.png")
    pixels = np.asarray(Image.open(tmp_path / "benchmark.png").convert("RGB"))
    assert pixels.shape == (624, 1500, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def _curve(*levels: Level) -> Axes:
    figure = Figure(figsize=(6, 5), dpi=120)
    FigureCanvasAgg(figure)
    axes: Axes = figure.subplots()
    draw_curve(axes, levels)
    return axes


@pytest.mark.parametrize(("clients", "style"), [((1,), "None"), ((1, 8), "None"), ((1, 4, 8), "-")])
def test_a_line_needs_three_levels_and_throughput_starts_at_nothing(clients: tuple[int, ...], style: str) -> None:
    axes = _curve(*(level(count, count=100 + 10 * count) for count in clients))
    assert {line.get_linestyle() for line in axes.get_lines()} == {style}
    assert axes.get_xlim()[0] == 0


@pytest.mark.parametrize(
    "levels",
    [
        [level(clients, count=200 + clients, latency_s=0.002 * clients) for clients in (1, 2, 4, 8, 16)],
        [level(clients, count=300, latency_s=0.001 * clients, is_stable=False) for clients in (1, 2, 3)],
        [level(1, count=100), level(8, count=101), level(50, mode=Mode.REQUEST_RATE, count=50, latency_s=0.002)],
        [level(clients, count=50 * clients, latency_s=0.002 + 0.001 * clients**2) for clients in range(1, 7)],
    ],
    ids=["steep", "vertical", "same place", "curved"],
)
def test_no_name_lies_on_a_series_or_on_another_name(levels: list[Level]) -> None:
    axes = _curve(*levels)
    axes.figure.canvas.draw()
    boxes = [name.get_window_extent() for name in name_levels(axes, levels)]
    assert len(boxes) == len(levels)
    assert not any(line.intersects_bbox(box, filled=False) for line in drawn(axes) for box in boxes)
    assert not any(box.count_overlaps([other for other in boxes if other is not box]) for box in boxes)
