"""A PyTorch module becomes an ONNX file with named inputs and outputs and a free batch size.

The same module gives the same bytes, weights beside the graph or in it. The graph is float32: `precision` makes the lower
ones from it. It knows no policy family and no Triton.
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from export import onnx_file

OPSET = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What to export: a module in eval mode, example inputs by name (batch ≥ 2), and the names of its outputs.

    `dynamic` names further free axes per input beside the batch, `{"ids": {1: "tokens"}}`; the same name means the same size.
    """

    file: str  # "model.onnx"
    module: nn.Module
    examples: dict[str, Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)


def write(graph: Graph, folder: Path, *, is_external: bool | None = None) -> tuple[Path, ...]:
    """Exports to `folder/graph.file` and returns the files: the graph, and its weights where `onnx_file.save` puts them apart."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)  # torch 2.13 calls itself
        warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)  # one name for all inputs is meant
        program = torch.onnx.export(
            graph.module.eval(),
            kwargs=graph.examples,
            input_names=list(graph.examples),
            output_names=list(graph.outputs),
            dynamic_shapes=_free_axes(graph),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    path = folder / graph.file
    onnx_file.save(program.model, path, is_external=is_external)
    return onnx_file.files_of(path)


def _free_axes(graph: Graph) -> dict[str, dict[int, torch.export.Dim]]:
    names = {name for axes in graph.dynamic.values() for name in axes.values()}
    free = {name: torch.export.Dim(name, min=1) for name in sorted(names)}
    batch = torch.export.Dim("batch", min=1, max=1024)
    return {
        name: {0: batch} | {axis: free[size] for axis, size in graph.dynamic.get(name, {}).items()} for name in graph.examples
    }
