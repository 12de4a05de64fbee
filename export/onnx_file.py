"""An ONNX model as files: the graph, and beside it one data file for the weights when they are many.

The same model gives the same bytes, and nothing that names this machine, a time or a source line stays in them. It needs no torch
and knows no policy; `onnx` writes exported graphs with it, `precision` typed ones.
"""

import hashlib
from collections.abc import Iterable, MutableSequence
from pathlib import Path
from typing import Protocol

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

EXTERNAL_OVER_BYTES = 256 * 2**20  # protobuf ends at 2 GiB, and every reader holds a graph's own bytes twice
INLINE_UP_TO_BYTES = 1024  # shapes and scalars stay in the graph: type inference reads them


class OnnxVersionError(Exception):
    """An ONNX file from another age than the program that shall read it; one line that says what to do."""


def save(model: ir.Model, path: Path, *, is_external: bool | None = None) -> None:
    """Writes, checks and types the model; None: weights go to `path` + ".data" when they exceed EXTERNAL_OVER_BYTES.

    The graph names its data file without a folder, so both move together. `model` is used up. Raises onnx's ValidationError.
    """
    if is_external or (is_external is None and weight_bytes(model) > EXTERNAL_OVER_BYTES):
        ir.external_data.unload_from_model(model, path.parent, data_file(path).name, size_threshold_bytes=INLINE_UP_TO_BYTES)
    proto = ir.to_proto(model)
    strip(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path), full_check=True)


def load(path: Path) -> ir.Model:
    """The model with its weights still on disk. Raises OnnxVersionError."""
    refuse_newer(path, ir_version=onnx.IR_VERSION, opset=onnx.defs.onnx_opset_version(), reader=f"onnx {onnx.__version__}")
    return ir.load(path)


def data_file(path: Path) -> Path:
    """Where the weights of the graph at `path` are if they are not in it."""
    return path.with_name(f"{path.name}.data")


def files_of(path: Path) -> tuple[Path, ...]:
    """The graph, and its data file if it has one."""
    data = data_file(path)
    return (path, data) if data.exists() else (path,)


def sha256_of(path: Path) -> str:
    """One hash over the graph and its weights: the graph names its data file, so both together are the model."""
    digest = hashlib.sha256()
    for part in files_of(path):
        with part.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all weights as they are stored."""
    graphs = [model.graph, *model.graph.subgraphs()]
    return sum(value.const_value.nbytes for graph in graphs for value in graph.initializers.values() if value.const_value)


def refuse_newer(path: Path, *, ir_version: int, opset: int, reader: str) -> None:
    """Raises OnnxVersionError when the file is from a later age than `reader` takes, or is no ONNX file at all."""
    try:
        proto = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise OnnxVersionError(f"{path}: no such file: export the policy first") from None
    except DecodeError:
        raise OnnxVersionError(f"{path.name}: not an ONNX file, or cut short: export it again") from None
    found = next((entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    if proto.ir_version > ir_version or found > opset:
        raise OnnxVersionError(
            f"{path.name}: ONNX IR {proto.ir_version}, opset {found}; {reader} takes up to IR {ir_version}, opset {opset}: "
            f"export it again with this vlaapi, or use a newer {reader.partition(' ')[0]}"
        )


def strip(model: onnx.ModelProto) -> None:
    """Stack traces and names from the exporter swell the file (thirtyfold with a Scan) and differ between machines."""
    _clear(model)
    model.producer_version = ""
    for function in model.functions:
        _clear(function)
        _strip_nodes(function.node)
        for value in function.value_info:
            _clear(value)
    _strip_graph(model.graph)


def _strip_graph(graph: onnx.GraphProto) -> None:
    for part in (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        _clear(part)
    _strip_nodes(graph.node)


def _strip_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        _clear(node)
        for attribute in node.attribute:
            attribute.ClearField("doc_string")  # setting an empty one would write it
            for body in (attribute.g, *attribute.graphs) if attribute.type in _GRAPHS else ():
                _strip_graph(body)


_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


class _Documented(Protocol):
    doc_string: str

    @property
    def metadata_props(self) -> MutableSequence[onnx.StringStringEntryProto]: ...


def _clear(part: _Documented) -> None:
    del part.metadata_props[:]
    part.doc_string = ""
