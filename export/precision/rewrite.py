"""Gives a graph its types: casts where a lowered step meets an exact one, weights in the type of their readers, bodies alike.

Either for real, as TensorRT builds it, or played in float32: every lowered result is rounded to the lower type and back, because
ONNX Runtime has no bfloat16 products on a CPU. Both hold the same numbers, so what is played proves what is built.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.precision.steps import Kind, PrecisionError, Step, is_float

_LARGEST = {ir.DataType.FLOAT16: 65504.0, ir.DataType.BFLOAT16: 3.3895313892515355e38}  # the largest finite numbers


class Precision(StrEnum):
    """The type that products work in. `fp8` is 8-bit products inside a bfloat16 graph."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"

    @property
    def dtype(self) -> ir.DataType:
        """The type in which lowered values are stored."""
        return ir.DataType.FLOAT16 if self is Precision.FP16 else ir.DataType.BFLOAT16

    @property
    def opset(self) -> int:
        """The first opset whose products and pointwise operators take the type."""
        return 20 if self is Precision.FP16 else 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How to write a graph down: in which precision, and whether for real or played in float32."""

    precision: Precision
    is_played: bool = False


class Rewriter:
    """Works on one model, in place."""

    def __init__(self, model: ir.Model, steps: tuple[Step, ...], lowered: frozenset[Step], style: Style) -> None:
        self.model, self.steps, self.lowered, self.style = model, steps, lowered, style
        self.maker = {value: step for step in steps for value in step.outputs}
        self._made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        """Afterwards no lowered step reads or makes float32, and no exact one reads or makes the lower type."""
        for step in self.steps[:-1]:
            for slot in step.slots:
                if is_float(slot.value):
                    slot.put(self._as_read(slot.value, is_low=step in self.lowered))
        self._keep_outputs()
        if not self.style.is_played:
            for value in self.maker:
                if self._is_low(value):
                    value.dtype = self.style.precision.dtype
        self._drop_unread_weights()
        opsets = self.model.graph.opset_imports
        opsets[""] = max(opsets[""], self.style.precision.opset)

    def _is_low(self, value: ir.Value) -> bool:
        return is_float(value) and self.maker.get(value) in self.lowered

    def _as_read(self, value: ir.Value, *, is_low: bool) -> ir.Value:
        """The value in the type in which a step reads it."""
        if value.is_initializer():
            return self._weight(value) if is_low else value
        if self.style.is_played:
            return self._as_played(value, is_low=is_low)
        if is_low == self._is_low(value):
            return value
        return self._cast(value, self.style.precision.dtype if is_low else ir.DataType.FLOAT)

    def _as_played(self, value: ir.Value, *, is_low: bool) -> ir.Value:
        """Rounded where it was computed low, or where an exact value is read low; what was only moved is rounded already."""
        maker = self.maker.get(value)
        if maker in self.lowered:
            return self._rounded(value) if maker and maker.kind in {Kind.PRODUCT, Kind.POINTWISE} else value
        return self._rounded(value) if is_low else value

    def _rounded(self, value: ir.Value) -> ir.Value:
        return self._cast(self._cast(value, self.style.precision.dtype), ir.DataType.FLOAT)

    def _cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        """One cast per value and type, right behind its maker, so that bodies share it."""
        if (value, to) in self._made:
            return self._made[value, to]
        name = f"{value.name}.{to.name.lower()}"
        node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", to)], name=f"cast.{name}")
        (made,) = node.outputs
        made.name, made.type, made.shape = name, ir.TensorType(to), value.shape
        self._place(node, value)
        self._made[value, to] = made
        return made

    def _place(self, node: ir.Node, value: ir.Value) -> None:
        """Behind the maker of `value`; first in its graph if that is an input."""
        maker, graph = value.producer(), value.graph
        if graph is None:
            raise PrecisionError(f"{value.name} belongs to no graph")
        if maker is None:
            graph.insert_before(graph[0], node)
        else:
            graph.insert_after(maker, node)

    def _weight(self, value: ir.Value) -> ir.Value:
        """The weight in the lower type, converted when it is written; finite numbers stay finite."""
        precision = self.style.precision
        if (value, precision.dtype) in self._made:
            return self._made[value, precision.dtype]
        source, graph = value.const_value, value.graph
        if source is None or graph is None:
            raise PrecisionError(f"weight {value.name} has no value")
        stored = ir.DataType.FLOAT if self.style.is_played else precision.dtype
        name = f"{value.name}.{precision.dtype.name.lower()}"

        def narrowed() -> ir.TensorProtocol:
            numbers = narrow(source.numpy(), precision)
            return ir.Tensor(numbers.astype(stored.numpy()), dtype=stored, name=name)

        made = ir.Value(name=name, type=ir.TensorType(stored), shape=value.shape)
        made.const_value = ir.LazyTensor(narrowed, stored, ir.Shape(source.shape), name=name)
        graph.register_initializer(made)
        self._made[value, precision.dtype] = made
        return made

    def _keep_outputs(self) -> None:
        """The graph's outputs keep their names and types."""
        for slot in self.steps[-1].slots:
            inner = slot.value
            outer = self._as_read(inner, is_low=False) if is_float(inner) else inner
            if outer is not inner:
                name, inner.name = inner.name, f"{inner.name}.inner"
                outer.name = name
                slot.put(outer)

    def _drop_unread_weights(self) -> None:
        """A weight that is now read in the lower type only."""
        initializers = self.model.graph.initializers
        for name in [name for name, value in initializers.items() if not value.uses() and not value.is_graph_output()]:
            del initializers[name]


def narrow(numbers: NDArray[np.generic], precision: Precision) -> NDArray[np.generic]:
    """Rounded to the lower type. A finite number beyond its range becomes its largest: -3.4e38 in a mask must not be -inf."""
    low = precision.dtype.numpy()
    largest = _LARGEST[precision.dtype]
    finite = np.isfinite(numbers)
    return np.where(finite, np.clip(numbers, -largest, largest), numbers).astype(low)
