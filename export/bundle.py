"""The files of a served policy, and what proves that they are the exported ones.

    <policy>/config.pbtxt  manifest.json  tokenizer.json  golden.npz  MODEL_CARD.md  parity.json
             evaluation.json  benchmark.json  (where they were measured)
             <version>/model.py  runner.py  model.onnx  (and whatever else the variants list)

The manifest holds the hashes of the files, `parity.json` that of the manifest. It knows the layout only: `publish` writes it,
`verify` and `served` prove it again. No torch, no runtime.
"""

import hashlib
import json
from pathlib import Path

from export.contract.manifest import MANIFEST_FILE, Manifest, ManifestError
from export.progress import Tick, counted

GOLDEN_FILE, CONFIG_FILE, CARD_FILE, BENCHMARK_FILE = "golden.npz", "config.pbtxt", "MODEL_CARD.md", "benchmark.json"
PARITY_FILE, EVALUATION_FILE = "parity.json", "evaluation.json"
MANIFEST_HASH = "manifest_sha256"  # in the file of proofs
SHELL_FILE, RUNNER_FILE = "model.py", "runner.py"
WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth"})
DATA_SUFFIX = ".data"  # weights that are too big for their graph's own file
CHUNK_BYTES = 1 << 20
# The manifest holds the hashes; measurements come later; Python writes its cache when Triton loads the backend.
_MEASUREMENTS = frozenset({CARD_FILE, PARITY_FILE, EVALUATION_FILE, BENCHMARK_FILE, "benchmark.png"})
_NOT_HASHED = _MEASUREMENTS | {MANIFEST_FILE, "__pycache__"}
_QUICK_BYTES = 1 << 29  # half a GiB takes under two seconds


class BundleChanged(Exception):  # noqa: N818 -- reads as what happened
    """Files of a bundle are not the ones that were exported."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        super().__init__(f"changed since export: {', '.join(files)}; export the policy again")


def folder_names(policy: str, version: int) -> frozenset[str]:
    """What a bundle's folder may be called: as its policy, or with the version where it lies beside another one."""
    return frozenset({policy, f"{policy}.{version}"})


def version_folder(folder: Path, manifest: Manifest) -> Path:
    """Where Triton finds the shell, the runner and what it loads."""
    return folder / str(manifest.version)


def runner_path(folder: Path, manifest: Manifest) -> Path:
    """The runner that is served."""
    return version_folder(folder, manifest) / RUNNER_FILE


def exported_files(folder: Path) -> list[Path]:
    """What of a bundle is hashed, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not _NOT_HASHED.intersection(path.parts))


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 by path within the bundle, in sorted order. Files of any size: they are read in chunks."""
    return _hashes(folder, exported_files(folder))


def weight_hashes(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each file of weights in a checkpoint's folder."""
    return _hashes(
        checkpoint, sorted(path for path in checkpoint.rglob("*") if path.suffix in WEIGHT_SUFFIXES and path.is_file())
    )


def _hashes(folder: Path, files: list[Path]) -> dict[str, str]:
    total = sum(path.stat().st_size for path in files)
    if total < _QUICK_BYTES:
        return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    with counted(f"hashing {folder.name}, MiB", total // CHUNK_BYTES) as tick:
        return {path.relative_to(folder).as_posix(): sha256_of(path, tick) for path in files}


def sha256_of(path: Path, tick: Tick = lambda: None) -> str:
    """The file's SHA-256; `tick` is called per MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            tick()
    return digest.hexdigest()


def refuse_changes(folder: Path, manifest: Manifest) -> None:
    """Raises BundleChanged when a file differs from, is missing from or is not known to the manifest, or the manifest is another.

    ManifestError when the folder is not called as the policy: Triton and callers would know it by two names.
    """
    if folder.absolute().name not in folder_names(manifest.policy, manifest.version):
        raise ManifestError(f"{folder}: its manifest is of the policy {manifest.policy!r}: give the folder that name")
    found, expected = hashes(folder), manifest.source.sha256
    changed = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
    proven = _proven_manifest(folder)
    if proven is None:
        changed.append(PARITY_FILE)
    elif proven != sha256_of(folder / MANIFEST_FILE):
        changed.append(MANIFEST_FILE)
    if changed:
        raise BundleChanged(sorted(changed))


def _proven_manifest(folder: Path) -> str | None:
    """The SHA-256 of the manifest that the proofs are of; None where no proofs say it."""
    try:
        found = json.loads((folder / PARITY_FILE).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    digest = found.get(MANIFEST_HASH) if isinstance(found, dict) else None
    return digest if isinstance(digest, str) else None


def with_data_files(manifest: Manifest, served: Path) -> Manifest:
    """The manifest whose variants also list the weights that lie beside their graphs in the version's folder `served`.

    Raises ManifestError when a listed file is not there.
    """
    variants = []
    for variant in manifest.variants:
        missing = [file for file in variant.files if not (served / file).is_file()]
        if missing:
            raise ManifestError(f"variants[{variant.name}].files: {missing[0]} was not written")
        beside = (f"{file}{DATA_SUFFIX}" for file in variant.files)
        data = tuple(file for file in beside if (served / file).is_file() and file not in variant.files)
        variants.append(variant.model_copy(update={"files": (*variant.files, *data)}))
    return manifest.model_copy(update={"variants": tuple(variants)})
