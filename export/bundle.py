"""The files of a served policy, and what proves that they are the exported ones.

    <policy>/config.pbtxt  manifest.json  tokenizer.json  golden.npz  MODEL_CARD.md  <version>/model.onnx  <version>/model.py

It knows the layout only: `publish` writes it, `verify` and `served` prove it again. No torch, no runtime.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.contract.manifest import MANIFEST_FILE, Manifest
from export.parity import Arrays

GOLDEN_FILE, CONFIG_FILE, CARD_FILE = "golden.npz", "config.pbtxt", "MODEL_CARD.md"
BENCHMARK_FILE = "benchmark.json"
MODEL_FILE, BACKEND_FILE = "model.onnx", "model.py"
# The manifest holds the hashes, the card shows them, a benchmark is of this machine; Triton's Python writes its cache there.
_NOT_HASHED = frozenset({MANIFEST_FILE, CARD_FILE, BENCHMARK_FILE, "__pycache__"})


class BundleChanged(Exception):  # noqa: N818 -- reads as what happened
    """Files of a bundle are not the ones that were exported."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        super().__init__(f"changed since export: {', '.join(files)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Inputs, and the original network's answers to them."""

    inputs: Arrays
    outputs: Arrays

    @property
    def count(self) -> int:
        """How many examples there are."""
        return len(next(iter(self.inputs.values())))

    def save(self, folder: Path) -> None:
        """Writes a compressed file; the same arrays give the same bytes."""
        inputs = {f"in.{name}": value for name, value in self.inputs.items()}
        outputs = {f"out.{name}": value for name, value in self.outputs.items()}
        np.savez_compressed(folder / GOLDEN_FILE, allow_pickle=False, **inputs, **outputs)


def load_golden(folder: Path) -> Golden:
    """The golden vectors of a bundle."""
    with np.load(folder / GOLDEN_FILE, allow_pickle=False) as arrays:
        return Golden(
            inputs={name.removeprefix("in."): arrays[name] for name in arrays if name.startswith("in.")},
            outputs={name.removeprefix("out."): arrays[name] for name in arrays if name.startswith("out.")},
        )


def model_path(folder: Path, manifest: Manifest) -> Path:
    """The graph that is served."""
    return folder / str(manifest.version) / MODEL_FILE


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 by path within the bundle, in sorted order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _NOT_HASHED.intersection(path.parts))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refuse_changes(folder: Path, manifest: Manifest) -> None:
    """Raises BundleChanged when a file differs from, is missing from or is not known to the manifest."""
    found, expected = hashes(folder), manifest.source.sha256
    changed = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if changed:
        raise BundleChanged(changed)
