"""The name of each level beside its p99, where it covers no series and no other name.

Knows pixels and no numbers; used by `plot` once everything else has its place.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path as Line
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from export.benchmark.result import Level

DISTANCES_PT = (7, 14, 24, 36, 50)
_SIDES = (
    ("center", 0, 1),
    ("left", 1, 0),
    ("right", -1, 0),
    ("center", 0, -1),
    ("left", 1, 1),
    ("right", -1, 1),
    ("left", 1, -1),
)
_AIR_PX, _MARKER_PX = 2, 3


def name_levels(axes: Axes, levels: Sequence[Level]) -> list[Annotation]:
    """Writes them, the slowest level first, as it has most room above. A name without any free place takes the farthest."""
    taken: list[Bbox] = []
    series = list(drawn(axes))
    names = []
    for level in sorted(levels, key=lambda level: -level.figures.latency.p99_us):
        name = _placed(axes, level, series, taken)
        taken.append(_box(name))
        names.append(name)
    return names


def drawn(axes: Axes) -> Iterator[Line]:
    """Every series in pixels: its line where it has one, else a short stroke per point."""
    for line in axes.get_lines():
        points = line.get_transform().transform(np.column_stack(line.get_data()))
        if line.get_linestyle() == "None" or len(points) == 1:
            yield from (Line([(x - _MARKER_PX, y), (x + _MARKER_PX, y)]) for x, y in points)
        else:
            yield Line(points)


def _placed(axes: Axes, level: Level, series: Sequence[Line], taken: Sequence[Bbox]) -> Annotation:
    text = f"{level.value:g}{'' if level.is_stable else ' unstable'}"
    at = (level.figures.inferences_per_s, level.figures.latency.p99_us / 1000)
    name = axes.annotate(text, at, textcoords="offset points", xytext=(0, 0), fontsize=8, va="center")
    inside = axes.get_window_extent()
    for distance, (align, right, up) in itertools.product(DISTANCES_PT, _SIDES):
        name.set(ha=align, position=(right * distance, up * distance))
        box = _box(name)
        is_inside = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
        if is_inside and not any(line.intersects_bbox(box, filled=False) for line in series) and not box.count_overlaps(taken):
            break
    return name


def _box(name: Annotation) -> Bbox:
    """With some air, in pixels."""
    return name.get_window_extent().padded(_AIR_PX)
