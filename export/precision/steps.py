"""A graph read as steps: one per node, plus one `seam` per value that crosses into or out of a Scan, Loop or If body.

With seams every body lies in the same flow as the graph around it, so that what is decided for a value holds on both sides of the
border. It decides nothing itself; `assign` does.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import onnx_ir as ir


class PrecisionError(Exception):
    """A graph that cannot be given another precision; one line that says why."""


class Kind(Enum):
    """What a step does with numbers, which is what decides the type it works in."""

    PRODUCT = "product"  # sums of products: what Tensor Cores do, and where the weights are
    POINTWISE = "pointwise"  # one number in, one out: as exact as its type
    MOVES = "moves"  # the same numbers in another place
    SEAM = "seam"  # a value on its way through the border of a body
    EXACT = "exact"  # float32 always: statistics, exponentials, angles, comparisons, and whatever is not listed here


_KINDS = {
    Kind.PRODUCT: "Conv ConvTranspose Gemm MatMul Einsum",
    Kind.POINTWISE: (
        "Abs Add Clip Div Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Max Min Mish Mul Neg PRelu Relu Sigmoid Sub Sum Tanh"
    ),
    Kind.MOVES: (
        "Concat DepthToSpace DequantizeLinear Expand Flatten Gather GatherElements GatherND Identity Pad QuantizeLinear Reshape "
        "ScatterElements ScatterND Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Where"
    ),
}
KIND_OF = {operator: kind for kind, operators in _KINDS.items() for operator in operators.split()}
ANGLES = frozenset({"Cos", "Sin"})
SIZES = frozenset({"Shape", "Size"})  # they read how much there is, not what it is
_BODIES = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place that reads a value: an input of a node, or an output of a graph."""

    owner: ir.Node | ir.Graph
    index: int

    @property
    def value(self) -> ir.Value:
        """What is read there now."""
        found = self.owner.inputs[self.index] if isinstance(self.owner, ir.Node) else self.owner.outputs[self.index]
        if found is None:
            raise PrecisionError("a Scan or Loop lacks the start of one of its states")
        return found

    def put(self, value: ir.Value) -> None:
        """Reads another value from now on."""
        if isinstance(self.owner, ir.Node):
            self.owner.replace_input_with(self.index, value)
        else:
            self.owner.outputs[self.index] = value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """`node` is None for a seam and for the graph's outputs. All inputs and outputs of a seam are one value with one type."""

    kind: Kind
    slots: tuple[Slot, ...]
    outputs: tuple[ir.Value, ...]
    node: ir.Node | None = None

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """What it reads."""
        return tuple(slot.value for slot in self.slots)

    @property
    def floats_in(self) -> tuple[ir.Value, ...]:
        """The inputs that can change their type."""
        return tuple(value for value in self.inputs if is_float(value))

    @property
    def floats_out(self) -> tuple[ir.Value, ...]:
        """The outputs that can change their type."""
        return tuple(value for value in self.outputs if is_float(value))

    @property
    def operator(self) -> str:
        """The node's operator; empty for a seam."""
        return self.node.op_type if self.node else ""


def is_float(value: ir.Value) -> bool:
    """Whether it is float32, the only type that is lowered."""
    return value.dtype == ir.DataType.FLOAT


def steps_of(model: ir.Model) -> tuple[Step, ...]:
    """Every step in the order of the nodes; the last one stands for the graph's outputs. Raises PrecisionError."""
    if model.functions:
        raise PrecisionError("the graph calls functions: export it with `optimize=True`, which inlines them")
    outputs = tuple(Slot(owner=model.graph, index=index) for index in range(len(model.graph.outputs)))
    return (*_walk(model.graph), Step(kind=Kind.EXACT, slots=outputs, outputs=()))


def bodies_of(node: ir.Node) -> tuple[ir.Graph, ...]:
    """The graphs inside a node, in a fixed order."""
    found = [attribute.as_graph() for attribute in node.attributes.values() if attribute.type == ir.AttributeType.GRAPH]
    if found and node.op_type not in _BODIES:
        raise PrecisionError(f"node {node.name}: the body of a {node.op_type} is not understood")
    return tuple(found)


def _walk(graph: ir.Graph) -> Iterator[Step]:
    for node in graph:
        bodies = bodies_of(node)
        if not bodies:
            yield _step(node)
            continue
        entries, exits = _branches(node, bodies) if node.op_type == "If" else _loop(node, bodies[0])
        yield from entries
        for body in bodies:
            yield from _walk(body)
        yield from exits


def _step(node: ir.Node) -> Step:
    untyped = [value.name for value in node.outputs if value.name and value.dtype is None]
    if untyped:
        raise PrecisionError(f"node {node.name} ({node.op_type}): the type of {untyped[0]} is unknown, so it cannot be lowered")
    slots = tuple(Slot(owner=node, index=index) for index, value in enumerate(node.inputs) if value is not None)
    return Step(kind=KIND_OF.get(node.op_type, Kind.EXACT), slots=slots, outputs=tuple(node.outputs), node=node)


def _seam(slots: Iterable[Slot], outputs: Iterable[ir.Value]) -> Step:
    return Step(kind=Kind.SEAM, slots=tuple(slots), outputs=tuple(outputs))


def _branches(node: ir.Node, bodies: tuple[ir.Graph, ...]) -> tuple[list[Step], list[Step]]:
    """Each result of an If comes from one of its branches."""
    ends = [_seam((Slot(owner=body, index=index) for body in bodies), [result]) for index, result in enumerate(node.outputs)]
    return [], ends


def _loop(node: ir.Node, body: ir.Graph) -> tuple[list[Step], list[Step]]:
    """States go in, around and out; what is scanned goes in; what is collected comes out."""
    is_scan = node.op_type == "Scan"
    first, ahead = (0, 0) if is_scan else (2, 1)  # a Loop also has a count and a condition, and its body gives the next condition
    scanned = node.attributes["num_scan_inputs"].as_int() if is_scan else 0
    given = len(node.inputs) - first
    states = given - scanned
    starts = []
    for index in range(given):
        start, taken = Slot(owner=node, index=first + index), body.inputs[first + index]
        if index < states:
            starts.append(_seam([start, Slot(owner=body, index=ahead + index)], [taken, node.outputs[index]]))
        else:
            starts.append(_seam([start], [taken]))
    ends = [_seam([Slot(owner=body, index=ahead + index)], [node.outputs[index]]) for index in range(states, len(node.outputs))]
    return starts, ends
