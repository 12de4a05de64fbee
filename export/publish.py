"""Puts a policy into the model repository: built beside its place, proven there, then moved in with one rename.

If anything fails, what was served before is untouched. A family is a module of `export.policies` with the functions that `Family`
lists.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from export import bundle
from export import onnx as graph_file
from export.card import Card
from export.contract.manifest import MANIFEST_FILE, Manifest
from export.parity import Agreement
from export.triton_config import config_of
from export.verify import agree

BACKEND = Path(__file__).parent / "python_backend" / bundle.BACKEND_FILE


class Family(Protocol):
    """What a module of `export.policies` offers."""

    def network(self) -> nn.Module:
        """The trained network; called with `examples` by name it gives one tensor, or a tuple in the order of the outputs."""

    def examples(self) -> dict[str, Tensor]:
        """Inputs by name, batch first, that reach every part of the network."""

    def tokenizer_file(self) -> Path:
        """The tokenizer that travels along."""

    def evaluation_file(self) -> Path:
        """Where this family's evaluation writes its numbers; need not exist."""

    def manifest(self, *, version: int, sha256: dict[str, str]) -> Manifest:
        """The facts."""


def publish(family: Family, repository: Path, *, version: int) -> tuple[Agreement, ...]:
    """Exports and proves `family`'s policy. Raises ParityBroken before anything in `repository` changes."""
    repository.mkdir(parents=True, exist_ok=True)
    policy = family.manifest(version=version, sha256={}).policy
    with tempfile.TemporaryDirectory(dir=repository.parent, prefix=f".{policy}-") as scratch:
        fresh = Path(scratch) / policy
        agreements = _build(family, fresh, version=version)
        _swap(fresh, repository / policy, Path(scratch) / "old")
    return agreements


def write_card(family: Family, folder: Path, agreements: tuple[Agreement, ...], manifest: Manifest) -> None:
    """Writes the card of the bundle in `folder`."""
    card = Card(
        manifest=manifest, agreements=agreements, evaluation=family.evaluation_file(), benchmark=folder / bundle.BENCHMARK_FILE
    )
    (folder / bundle.CARD_FILE).write_text(card.text())


def _build(family: Family, folder: Path, *, version: int) -> tuple[Agreement, ...]:
    served = folder / str(version)
    served.mkdir(parents=True)
    manifest = family.manifest(version=version, sha256={})
    golden = _export(family, manifest, served)
    agreements = agree(served / bundle.MODEL_FILE, golden, manifest)
    golden.save(folder)
    shutil.copy(BACKEND, served / bundle.BACKEND_FILE)
    if manifest.instruction is not None:
        shutil.copy(family.tokenizer_file(), folder / manifest.instruction.tokenizer_file)
    (folder / bundle.CONFIG_FILE).write_text(config_of(manifest).text())
    manifest = family.manifest(version=version, sha256=bundle.hashes(folder))
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    write_card(family, folder, agreements, manifest)
    return agreements


def _export(family: Family, manifest: Manifest, folder: Path) -> bundle.Golden:
    """Writes the graph and returns the original's answers."""
    module, examples = family.network().eval(), family.examples()
    names = tuple(output.tensor for output in manifest.outputs)
    graph_file.write(graph_file.Graph(file=bundle.MODEL_FILE, module=module, examples=examples, outputs=names), folder)
    with torch.inference_mode():
        answer = module(**examples)
    answers = answer if isinstance(answer, tuple) else (answer,)
    return bundle.Golden(
        inputs={name: value.numpy() for name, value in examples.items()},
        outputs={name: value.numpy() for name, value in zip(names, answers, strict=True)},
    )


def _swap(fresh: Path, place: Path, old: Path) -> None:
    if place.exists():
        place.rename(old)
    try:
        fresh.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise
