"""Reads a float32 graph in the one form that the rest of this package expects: typed values, unique names, constants as weights.

Pictures arrive as uint8, which TensorRT only converts: it neither turns nor cuts them. So they become float32 first, which holds
every byte exactly. It knows no precision.
"""

from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common as passes

from export import onnx_file
from export.precision.steps import KIND_OF, SIZES, Kind, PrecisionError


def read(path: Path) -> ir.Model:
    """The graph at `path`; weights stay on disk. Raises OnnxVersionError or PrecisionError."""
    model = onnx_file.load(path)
    passes.InlinePass()(model)
    passes.LiftConstantsToInitializersPass()(model)
    passes.LiftSubgraphInitializersToMainGraphPass()(model)
    _refuse_lowered(model, path)
    _name_apart(model)
    if any(value.name and value.dtype is None for node in model.graph.all_nodes() for value in node.outputs):
        passes.ShapeInferencePass()(model)
    _widen_bytes(model.graph)
    return model


def _refuse_lowered(model: ir.Model, path: Path) -> None:
    low = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
    found = [value.name for value in model.graph.initializers.values() if value.dtype in low]
    if found:
        raise PrecisionError(f"{path.name}: weight {found[0]} is not float32: make the variant from the float32 graph")


def _name_apart(model: ir.Model) -> None:
    """Two bodies may use one name; here a name is one value."""
    seen = {value.name for value in (*model.graph.inputs, *model.graph.initializers.values())}
    values = [value for body in model.graph.subgraphs() for value in body.inputs]
    values += [value for node in model.graph.all_nodes() for value in node.outputs]
    for value in values:
        name, count = value.name, 1
        while value.name in seen:
            count += 1
            value.name = f"{name}.{count}"
        if value.name:
            seen.add(value.name)


def _widen_bytes(graph: ir.Graph) -> None:
    for given in graph.inputs:
        if given.dtype == ir.DataType.UINT8 and any(node.op_type != "Cast" for node in given.consumers()):
            node = ir.Node("", "Cast", [given], [ir.AttrInt64("to", ir.DataType.FLOAT)], name=f"widen.{given.name}")
            (wide,) = node.outputs
            wide.name, wide.type, wide.shape = f"{given.name}.wide", ir.TensorType(ir.DataType.FLOAT), given.shape
            readers = [usage for usage in given.uses() if usage.node is not node]
            graph.insert_before(graph[0], node)
            for reader, index in readers:
                reader.replace_input_with(index, wide)
            _follow(wide)


def _follow(wide: ir.Value) -> None:
    """What is made of the bytes is float32 too, up to where the graph converts it itself."""
    waiting = [wide]
    while waiting:
        for reader in waiting.pop().consumers():
            if reader.op_type == "Cast" or reader.op_type in SIZES:
                continue
            if KIND_OF.get(reader.op_type) is not Kind.MOVES:
                raise PrecisionError(
                    f"node {reader.name} ({reader.op_type}) works on bytes: convert pictures to float32 before it"
                )
            for value in reader.outputs:
                value.type = ir.TensorType(ir.DataType.FLOAT)
                waiting.append(value)
