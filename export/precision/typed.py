"""Writes a float32 graph in a lower precision: as TensorRT builds it, or played in float32 to prove it on a CPU.

Inputs and outputs keep their names and types. What stays float32 is in `assign`; float16 also keeps what came near its limit on
the examples. It knows no policy, no bundle and no TensorRT; `export.tensorrt` calls it.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from export import onnx_file
from export.precision.assign import Wishes, lowered_steps
from export.precision.quantise import quantise
from export.precision.rewrite import Precision, Rewriter, Style
from export.precision.source import read
from export.precision.steps import Kind, PrecisionError, Step, steps_of

# Half of float16's largest number: other inputs than the examples may reach twice as far.
FP16_LIMIT = 65504.0 / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to write. `keep` are patterns of products' or weights' names that stay float32; `ranges` come from `ranges.ranges`.

    `carried` are patterns of outputs that are state for the next run, not answers; `present` is ONNX's word for keys and values.
    """

    precision: Precision
    keep: tuple[str, ...] = ()
    carried: tuple[str, ...] = ("present*",)
    ranges: dict[str, float] = field(default_factory=dict)

    @property
    def needs_ranges(self) -> bool:
        """bfloat16 reaches as far as float32, so nothing has to be measured for it."""
        return self.precision is not Precision.BF16

    @property
    def overflowing(self) -> frozenset[str]:
        """The values that float16 must not hold."""
        if self.precision is not Precision.FP16:
            return frozenset()
        return frozenset(name for name, largest in self.ranges.items() if not largest < FP16_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What was written. `products` counts multiplications by the type they work in; `weight_bytes` is all weights as stored."""

    precision: Precision
    products: dict[str, int]
    weight_bytes: int
    overflowing: tuple[str, ...]


def write(source: Path, target: Path, recipe: Recipe, *, is_played: bool = False) -> Typed:
    """Writes `target` and its data file. Raises PrecisionError where nothing could be lowered or ranges are missing."""
    if recipe.needs_ranges and not recipe.ranges:
        raise PrecisionError(f"{source.name}: {recipe.precision} needs measured ranges: give examples")
    model = read(source)
    wishes = Wishes(keep=recipe.keep, carried=recipe.carried, overflowing=recipe.overflowing)
    steps = steps_of(model)
    lowered = lowered_steps(steps, wishes)
    eighths = 0
    if recipe.precision is Precision.FP8:
        eighths = quantise(model, lowered, steps, recipe.ranges)
        steps = steps_of(model)
        lowered = lowered_steps(steps, wishes)
    products = _products(steps, lowered, recipe.precision, eighths)
    if products.keys() <= {"fp32"}:
        raise PrecisionError(f"{source.name}: no product can be {recipe.precision}: there would be nothing but float32 in it")
    Rewriter(model, steps, lowered, Style(precision=recipe.precision, is_played=is_played)).run()
    weight_bytes = onnx_file.weight_bytes(model)
    onnx_file.save(model, target)
    return Typed(
        precision=recipe.precision, products=products, weight_bytes=weight_bytes, overflowing=tuple(sorted(recipe.overflowing))
    )


def _products(steps: tuple[Step, ...], lowered: frozenset[Step], precision: Precision, eighths: int) -> dict[str, int]:
    stored = Precision.BF16 if precision is Precision.FP8 else precision
    counts = Counter(str(stored) if step in lowered else "fp32" for step in steps if step.kind is Kind.PRODUCT)
    if eighths:
        counts[Precision.FP8] = eighths
        counts[stored] -= eighths
    return {str(name): count for name, count in sorted(counts.items()) if count}


def weight_types(path: Path) -> dict[str, int]:
    """Bytes of weights by type, as they are stored: what an engine of this graph must hold."""
    found: Counter[str] = Counter()
    for value in ir.load(path).graph.initializers.values():
        found[value.dtype.name.lower()] += value.const_value.nbytes
    return dict(found)
