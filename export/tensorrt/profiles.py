"""Which shapes a plan takes: an optimisation profile per prompt length and kind of step, all for the same range of batch sizes.

Free axes are found in the ONNX file by name. It needs no TensorRT.
"""

from dataclasses import dataclass
from pathlib import Path

import onnx

from export.contract.runtime import ShapeRange
from export.tensorrt.library import EngineError

Profile = dict[str, ShapeRange]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The least, the usual and the largest size of an axis."""

    min: int
    opt: int
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Sizes of free axes by name. Each of `cases` says some of them exactly and gets a profile of its own."""

    ranges: dict[str, Range]
    cases: tuple[dict[str, int], ...] = ()


def free_axes(model: Path) -> dict[str, tuple[int | str, ...]]:
    """Every input's shape, free axes by their names."""
    graph = onnx.load(model, load_external_data=False).graph
    return {
        value.name: tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim) for value in graph.input
    }


def profiles(model: Path, axes: Axes) -> tuple[Profile, ...]:
    """One per case, or a single one. Raises EngineError for a free axis that has no range."""
    shapes = free_axes(model)
    exact = [{name: Range(min=size, opt=size, max=size) for name, size in case.items()} for case in axes.cases]
    return tuple(_profile(model, shapes, axes.ranges | case) for case in exact or [{}])


def _profile(model: Path, shapes: dict[str, tuple[int | str, ...]], ranges: dict[str, Range]) -> Profile:
    for name, shape in shapes.items():
        for size in shape:
            if isinstance(size, str) and size not in ranges:
                raise EngineError(f"{model.name}: axis {size!r} of input {name!r} is free: say `--axis {size}=MIN:OPT:MAX`")
    return {
        name: ShapeRange(
            min=tuple(ranges[size].min if isinstance(size, str) else size for size in shape),
            opt=tuple(ranges[size].opt if isinstance(size, str) else size for size in shape),
            max=tuple(ranges[size].max if isinstance(size, str) else size for size in shape),
        )
        for name, shape in shapes.items()
    }


def parse_range(text: str) -> tuple[str, Range]:
    """`NAME=MIN:OPT:MAX`. Raises EngineError."""
    name, _, sizes = text.partition("=")
    parts = sizes.split(":")
    if not name or len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise EngineError(f"--axis {text}: expected NAME=MIN:OPT:MAX, as in tokens=1:32:64")
    low, usual, high = map(int, parts)
    if not low <= usual <= high:
        raise EngineError(f"--axis {text}: MIN ≤ OPT ≤ MAX does not hold")
    return name, Range(min=low, opt=usual, max=high)
