"""8-bit products: what a lowered MatMul or Gemm reads passes through float8 (e4m3) with a measured scale.

Weights get one scale per output column and are stored in 8 bits; activations get one scale each, from the ranges of the examples.
Convolutions stay in bfloat16: the first layer has three channels, which 8-bit kernels do not take. It works on the float32 graph;
`rewrite` then gives scales and results their types.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.precision.steps import Kind, PrecisionError, Step

LARGEST = 448.0  # of float8 e4m3
SMALLEST_SIDE = 16  # narrower products have no 8-bit kernels
_SIDES = 2
_TINY = 1e-12  # a column of zeros still needs a scale


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weight:
    """A weight as a product reads it: `turned` is the Transpose between, `axis` is the weight's own axis of output columns."""

    value: ir.Value
    turned: ir.Node | None
    axis: int


def quantise(model: ir.Model, lowered: frozenset[Step], steps: tuple[Step, ...], ranges: dict[str, float]) -> int:
    """Puts 8 bits before every product of `lowered` with a weight; returns how many. Raises PrecisionError."""
    makers = {value: step for step in steps for value in step.outputs}
    products = [step.node for step in steps if step in lowered and step.kind is Kind.PRODUCT and step.node]
    found = [(node, weight) for node in products if (weight := _weight_of(node, makers)) is not None]
    done: dict[ir.Value, ir.Value] = {}
    for node, weight in found:
        given = node.inputs[0]
        if given not in done:
            done[given] = _activation(model.graph, given, ranges)
        if weight.value not in done:
            done[weight.value] = _stored(model.graph, weight)
        node.replace_input_with(0, done[given])
        reader, index = (node, 1) if weight.turned is None else (weight.turned, 0)
        reader.replace_input_with(index, done[weight.value])
    return len(found)


def _weight_of(node: ir.Node, makers: dict[ir.Value, Step]) -> _Weight | None:
    if node.op_type not in {"MatMul", "Gemm"}:
        return None
    maker = makers.get(node.inputs[1])
    turned = maker.node if maker and maker.operator == "Transpose" else None
    source = turned.inputs[0] if turned else node.inputs[1]
    if not source.is_initializer() or len(source.shape) != _SIDES or min(source.shape.numpy()) < SMALLEST_SIDE:
        return None
    is_turned = turned is not None or ("transB" in node.attributes and node.attributes["transB"].as_int() == 1)
    return _Weight(value=source, turned=turned, axis=0 if is_turned else 1)


def _scale(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Exact in bfloat16, in which it is stored, so that both directions use the same number."""
    scale = np.maximum(largest, _TINY) / LARGEST
    return np.asarray(scale.astype(ml_dtypes.bfloat16).astype(np.float32))


def _activation(graph: ir.Graph, given: ir.Value, ranges: dict[str, float]) -> ir.Value:
    if given.name not in ranges:
        raise PrecisionError(f"{given.name}: no range was measured, so it has no 8-bit scale")
    scale = _constant(graph, f"{given.name}.scale", _scale(np.asarray(ranges[given.name], dtype=np.float32)))
    zero = _constant(graph, f"{given.name}.zero", np.zeros((), dtype=ml_dtypes.float8_e4m3fn))
    narrow = ir.Node("", "QuantizeLinear", [given, scale, zero], name=f"quantise.{given.name}")
    wide = ir.Node("", "DequantizeLinear", [narrow.outputs[0], scale, zero], name=f"restore.{given.name}")
    _describe(narrow.outputs[0], f"{given.name}.fp8", ir.DataType.FLOAT8E4M3FN, given.shape)
    _describe(wide.outputs[0], f"{given.name}.restored", ir.DataType.FLOAT, given.shape)
    home, maker = given.graph, given.producer()
    if maker is None:
        home.insert_before(home[0], [narrow, wide])
    else:
        home.insert_after(maker, [narrow, wide])
    return wide.outputs[0]


def _stored(graph: ir.Graph, weight: _Weight) -> ir.Value:
    source, name = weight.value.const_value, weight.value.name
    across = 1 - weight.axis
    scale = _scale(np.abs(source.numpy()).max(axis=across).astype(np.float32))

    def narrowed() -> ir.TensorProtocol:
        numbers = source.numpy() / np.expand_dims(scale, across)
        eighth = np.clip(numbers, -LARGEST, LARGEST).astype(ml_dtypes.float8_e4m3fn)
        return ir.Tensor(eighth, dtype=ir.DataType.FLOAT8E4M3FN, name=f"{name}.fp8")

    held = ir.Value(name=f"{name}.fp8", type=ir.TensorType(ir.DataType.FLOAT8E4M3FN), shape=weight.value.shape)
    held.const_value = ir.LazyTensor(narrowed, ir.DataType.FLOAT8E4M3FN, ir.Shape(source.shape), name=held.name)
    graph.register_initializer(held)
    scales = _constant(graph, f"{name}.scale", scale)
    node = ir.Node("", "DequantizeLinear", [held, scales], [ir.AttrInt64("axis", weight.axis)], name=f"restore.{name}")
    _describe(node.outputs[0], f"{name}.restored", ir.DataType.FLOAT, weight.value.shape)
    graph.insert_before(graph[0], node)
    return node.outputs[0]


def _constant(graph: ir.Graph, name: str, numbers: NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(numbers, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(numbers.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def _describe(value: ir.Value, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> None:
    value.name, value.type, value.shape = name, ir.TensorType(dtype), shape
