"""Adds PyTorch programs to a published OpenVLA bundle, in the precision that they shall run in, with their runner.

The programs are the graphs of `policy`, exported once more without ONNX; they need PyTorch to run and nothing of ours. Proven
like every variant before the bundle changes. Called by `vlaapi export build-torch`.
"""

from enum import StrEnum
from pathlib import Path

import torch

from export.bundle import version_folder, weight_hashes
from export.contract.manifest import Manifest, load_manifest
from export.contract.runtime import Variant
from export.golden import Golden, load_golden
from export.in_process import BACKEND, RunnerUnavailable, answers, groups, open_runner
from export.onnx import Graph
from export.parity import Agreement, measure, token_agreement
from export.policies.adapter import CheckpointError
from export.policies.openvla.policy import OpenVlaPolicy
from export.progress import counted, working
from export.publish import revise

RUNNER = BACKEND / "torch_decode.py"
BATCHES = "1,2,4,8"
_TRIED_BATCH = 8
_NATS_TOLERANCE = {"token_logprob": 0.5, "token_entropy": 0.5}  # of bf16 and fp16, where tokens agree


class Precision(StrEnum):
    """What weights and activations are kept in; norms, positions and probabilities stay float32."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"

    @property
    def dtype(self) -> torch.dtype:
        """As PyTorch names it."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.value]


def write_programs(policy: OpenVlaPolicy, folder: Path, precision: Precision) -> tuple[str, ...]:
    """Writes a `.pt2` beside each graph's `.onnx`, never into one that is there, and returns their names."""
    files = []
    for graph in policy.graphs_in(precision.dtype):
        file = folder / Path(graph.file).with_suffix(".pt2").name
        file.unlink(missing_ok=True)
        with working(f"exporting {file.name}"):
            torch.export.save(_program(graph), file)
        files.append(file.name)
    return tuple(files)


def add_torch_variant(
    policy: OpenVlaPolicy, folder: Path, *, checkpoint: Path, precision: Precision, provider: str, least_agreement: float
) -> tuple[Agreement, ...]:
    """Adds the variant to the bundle in `folder` and serves it; one agreement per output. `checkpoint` is what `policy` opened.

    Raises CheckpointError when the bundle was made from other weights or fewer than `least_agreement` of the tokens are the
    original's, RunnerUnavailable without the device, and what `publish.revise` raises; then nothing has changed.
    """
    bundled, opened = load_manifest(folder), policy.manifest(version=1, sha256={})
    if (bundled.family, bundled.action.statistics) != (opened.family, opened.action.statistics):
        raise CheckpointError(f"{folder}: was not published from this checkpoint; export it first")
    if provider == "cuda" and not torch.cuda.is_available():
        raise RunnerUnavailable("PyTorch finds no CUDA device: build on the machine that serves, or for its CPU with --cpu")
    if weight_hashes(checkpoint) != bundled.source.weights_sha256:
        raise CheckpointError(f"{checkpoint}: its weights are not those that {folder} was exported from; export it first")
    golden = load_golden(folder)

    def change(fresh: Path) -> Manifest:
        manifest = load_manifest(fresh)
        served = version_folder(fresh, manifest)
        files = write_programs(policy, served, precision)
        variant = _variant(policy, files, precision=precision, provider=provider)
        share = _share(variant, manifest, golden, served)
        if not share >= least_agreement:
            raise CheckpointError(
                f"{variant.name}: {share:.2%} of the tokens are the original's, {least_agreement:.0%} are needed"
            )
        others = tuple(one for one in manifest.variants if one.runner != variant.runner)
        return manifest.model_copy(update={"variants": (*others, variant), "served": variant.name})

    return revise(folder, change)


def _share(variant: Variant, manifest: Manifest, golden: Golden, served: Path) -> float:
    """The share of golden tokens that it chooses alike, in batches of one size; `revise` proves the other sizes."""
    rows = groups(golden.count, _TRIED_BATCH)
    with counted(f"trying {variant.name}", len(rows)) as tick:
        found = answers(open_runner(RUNNER, served, variant), manifest, golden.inputs, rows=rows, tick=tick)
    share = token_agreement(measure(found, golden.outputs, manifest, variant), manifest)
    return 0.0 if share is None else share


def _variant(policy: OpenVlaPolicy, files: tuple[str, ...], *, precision: Precision, provider: str) -> Variant:
    return Variant(
        name=f"torch-{provider}-{precision}",
        precision=precision.value,
        runner=RUNNER.stem,
        files=files,
        parameters=policy.decode_parameters() | {"provider": provider, "batches": BATCHES, "vocab_size": str(policy.vocab_size)},
        tolerances={} if precision is Precision.FP32 else _NATS_TOLERANCE,
    )


def _program(graph: Graph) -> torch.export.ExportedProgram:
    """Free axes from one up, as in ONNX; a prompt has at least its template's ids."""
    names = {name for axes in graph.dynamic.values() for name in axes.values()}
    free = {name: torch.export.Dim(name, min=4 if name == "words" else 1) for name in names}
    batch = torch.export.Dim("batch", min=1, max=1024)
    axes = {
        name: {0: batch} | {axis: free[size] for axis, size in graph.dynamic.get(name, {}).items()} for name in graph.examples
    }
    with torch.inference_mode():
        return torch.export.export(graph.module.eval(), (), graph.examples, dynamic_shapes=axes)
