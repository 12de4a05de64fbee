"""Exports the real OpenVLA-7B shape to ONNX with fake weights: how long, how many nodes, and how much memory without the weights.

    python -m export.policies.openvla.fake_export [CHECKPOINT]

No weight is allocated or written: parameters are fake tensors, so what is measured is what the exporter itself needs beside the
15 GB that a real checkpoint maps. CHECKPOINT's config.json may describe another shape. It knows no Triton and proves no numbers.
"""

import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from export.policies.openvla.config import OpenVlaConfig, read_config
from export.policies.openvla.decode import Continue, Prompt
from export.policies.openvla.network import OpenVla

PUBLISHED = {
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "image_resize_strategy": "resize-naive",
    "text_config": {"model_type": "llama", "pad_token_id": 32000, "vocab_size": 32064},
}
AUTO = torch.export.Dim.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One graph's export. `weights` are shapes by name, `peak_mb` the process' largest resident memory so far."""

    graph: str
    seconds: float
    nodes: int
    weights: dict[str, tuple[int, ...]]
    weight_gb: float
    peak_mb: float


def measure(config: OpenVlaConfig, *, dtype: torch.dtype) -> Iterator[Row]:
    """A row per large graph."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        torch.set_default_dtype(dtype)
        try:
            network = OpenVla(config).eval().requires_grad_(requires_grad=False)
        finally:
            torch.set_default_dtype(torch.float32)
        graphs = {"prompt": _prompt(network), "continue": _continue(network, dtype)}
        for name, (module, examples, axes) in graphs.items():
            start = time.monotonic()
            program = torch.export.export(module, (), examples, dynamic_shapes=axes)
            yield _converted(name, program, list(examples), start)


def _prompt(network: OpenVla) -> tuple[nn.Module, dict[str, Tensor], dict[str, object]]:
    side = network.config.image_size
    examples = {
        "image": torch.zeros(2, side, side, 3, dtype=torch.uint8),
        "instruction_ids": torch.ones(2, 24, dtype=torch.int64),
    }
    return (
        Prompt(network, pad_id=network.config.pad_token_id),
        examples,
        {"image": {0: AUTO}, "instruction_ids": {0: AUTO, 1: AUTO}},
    )


def _continue(network: OpenVla, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor], dict[str, object]]:
    text = network.config.text
    examples = {
        "embeddings": torch.zeros(2, 3, text.hidden_size, dtype=dtype),
        "is_real": torch.ones(2, 3, dtype=torch.bool),
        "start": torch.zeros(2, dtype=torch.int64),
        "past": torch.zeros(2, text.num_hidden_layers, 2, text.num_key_value_heads, 5, text.head_dim, dtype=dtype),
        "is_real_past": torch.ones(2, 5, dtype=torch.bool),
    }
    axes: dict[str, object] = {
        "embeddings": {0: AUTO, 1: AUTO},
        "is_real": {0: AUTO, 1: AUTO},
        "start": {0: AUTO},
        "past": {0: AUTO, 4: AUTO},
        "is_real_past": {0: AUTO, 1: AUTO},
    }
    return Continue(network), examples, axes


def _converted(name: str, program: torch.export.ExportedProgram, inputs: list[str], start: float) -> Row:
    """Without the optimiser, which would want to read weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(program, input_names=inputs, opset_version=20, dynamo=True, optimize=False, verbose=False)
    if exported is None:
        raise RuntimeError("torch.onnx.export gave no program")
    weights = {key: value for key, value in exported.model.graph.initializers.items() if value.const_value is not None}
    return Row(
        graph=name,
        seconds=time.monotonic() - start,
        nodes=len(list(exported.model.graph)),
        weights={key: tuple(map(int, value.shape)) for key, value in weights.items()},
        weight_gb=sum(value.const_value.nbytes for value in weights.values()) / 1e9,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    )


def main() -> None:
    """Prints a table."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "config.json").write_text(json.dumps(PUBLISHED))
        config = read_config(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch))
    console = Console(soft_wrap=True, highlight=False)
    console.print("| graph | seconds | nodes | weights | their GB, not allocated | peak resident MB |\n|---|---|---|---|---|---|")
    for row in measure(config, dtype=torch.bfloat16):
        numbers = f"{row.seconds:.0f} | {row.nodes} | {len(row.weights)} | {row.weight_gb:.2f} | {row.peak_mb:.0f}"
        console.print(f"| {row.graph} | {numbers} |")


if __name__ == "__main__":
    main()
