"""How large each float32 value of a graph gets on example inputs, also inside the bodies of Scan, Loop and If.

float16 ends at 65504, so what comes near it stays float32; 8-bit products need the range of what they read. The graph is run once
with one more output per value: its largest magnitude. It decides nothing.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export import onnx_file
from export.onnx_session import open_session
from export.parity import Arrays
from export.precision.source import read
from export.precision.steps import Kind, bodies_of, steps_of

BATCH = 8


def ranges(source: Path, inputs: Arrays, scratch: Path) -> dict[str, float]:
    """The largest magnitude by value name, over all examples (batch first). Writes only into `scratch`."""
    watched = Watched(source, scratch)
    for start in range(0, len(next(iter(inputs.values()))), BATCH):
        watched.run([], {name: values[start : start + BATCH] for name, values in inputs.items()})
    return watched.largest


class Watched:
    """A session of a graph that answers as usual and remembers how large every value was. Writes only into `scratch`."""

    def __init__(self, source: Path, scratch: Path) -> None:
        model = read(source)
        self._names = _Probe(model).names()
        path = scratch / f"ranges.{source.name}"
        onnx_file.save(model, path)
        self._session = open_session(path, is_optimised=False)
        self.largest: dict[str, float] = {}

    def run(self, outputs: list[str], inputs: Arrays) -> list[NDArray[Any]]:
        """What ONNX Runtime's session answers."""
        answers = self._session.run([*outputs, *self._names], inputs)
        for name, answer in zip(self._names.values(), answers[len(outputs) :], strict=True):
            self._note(name, float(np.max(answer)))
        for name, values in inputs.items():
            if values.dtype == np.float32:
                self._note(name, float(np.abs(values).max()))
        return list(answers[: len(outputs)])

    def _note(self, name: str, magnitude: float) -> None:
        self.largest[name] = max(self.largest.get(name, 0.0), magnitude)


class _Probe:
    """Adds the outputs. A scalar made in a body is collected by its node, whose outputs grow by one."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.around = {body: node for node in model.graph.all_nodes() for body in bodies_of(node)}

    def names(self) -> dict[str, str]:
        """The watched value's name by the name of its output."""
        made = [value for step in steps_of(self.model) if step.kind is not Kind.SEAM for value in step.floats_out]
        found = {}
        for value in made:
            top = self._lifted(self._largest(value))
            self.model.graph.outputs.append(top)
            found[str(top.name)] = str(value.name)
        return found

    def _largest(self, value: ir.Value) -> ir.Value:
        return self._behind(value, "ReduceMax", self._behind(value, "Abs", value))

    def _behind(self, watched: ir.Value, operator: str, given: ir.Value) -> ir.Value:
        attributes = [ir.AttrInt64("keepdims", 0)] if operator == "ReduceMax" else []
        node = ir.Node("", operator, [given], attributes, name=f"{operator}.{given.name}")
        (made,) = node.outputs
        made.name, made.type = f"{operator}.{given.name}", ir.TensorType(ir.DataType.FLOAT)
        made.shape = ir.Shape([]) if operator == "ReduceMax" else watched.shape
        maker, graph = given.producer(), given.graph
        if graph is None or maker is None:
            raise ValueError(f"{given.name} is made by no node")
        graph.insert_after(maker, node)
        return made

    def _lifted(self, scalar: ir.Value) -> ir.Value:
        while scalar.graph is not None and (node := self.around.get(scalar.graph)) is not None:
            inner = scalar.graph
            for body in bodies_of(node):
                body.outputs.append(scalar if body is inner else _zero(body, f"{scalar.name}.none"))
            node.resize_outputs(len(node.outputs) + 1)
            collected = node.outputs[-1]
            collected.name, collected.type = f"all.{scalar.name}", ir.TensorType(ir.DataType.FLOAT)
            collected.shape = ir.Shape([]) if node.op_type == "If" else ir.Shape([None])
            for attribute in ("scan_output_axes", "scan_output_directions"):
                if attribute in node.attributes:
                    node.attributes[attribute] = ir.AttrInt64s(attribute, [*node.attributes[attribute].as_ints(), 0])
            scalar = self._largest(collected) if node.op_type != "If" else collected
        return scalar


def _zero(body: ir.Graph, name: str) -> ir.Value:
    node = ir.Node("", "Constant", [], [ir.AttrTensor("value", ir.tensor(np.float32(0)))], name=name)
    (made,) = node.outputs
    made.name, made.type, made.shape = name, ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    body.append(node)
    return made
