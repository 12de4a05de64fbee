"""Proves a bundle again without the network it came from: its files, then its golden vectors through ONNX Runtime.

Used by `publish` before anything is served and by `vlaapi export verify` at any time after. It knows no Triton.
"""

from pathlib import Path

from export.bundle import Golden, load_golden, model_path, refuse_changes
from export.contract.manifest import Manifest, load_manifest
from export.parity import Agreement, compare
from export.run_onnx import answers


def verify(folder: Path) -> tuple[Agreement, ...]:
    """One agreement per output. Raises BundleChanged or ParityBroken."""
    manifest = load_manifest(folder)
    refuse_changes(folder, manifest)
    return agree(model_path(folder, manifest), load_golden(folder), manifest)


def agree(model: Path, golden: Golden, manifest: Manifest) -> tuple[Agreement, ...]:
    """The worse of one example at a time and all at once: a graph may be right at one batch size only."""
    outputs = manifest.outputs
    runs = [compare(answers(model, golden.inputs, outputs, batch=batch), golden.outputs, outputs) for batch in (1, golden.count)]
    return tuple(max(pair, key=lambda one: one.max_abs_difference) for pair in zip(*runs, strict=True))
