"""Puts a policy into the model repository: built beside its place, proven there, then moved in at one stroke.

If anything fails or is killed, what was served before is untouched. It knows no family: `export.policies.adapter.Policy` is all
it sees of one.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import ValidationError

from export import bundle
from export import onnx as graph_file
from export.card import text_of
from export.contract.manifest import MANIFEST_FILE, Manifest, ManifestError, faults_of, load_manifest
from export.contract.tokenize import InstructionTokenizer
from export.golden import Golden, load_golden
from export.in_process import BACKEND, parts_of, runner_file
from export.parity import Agreement
from export.place import naming, put, refuse_foreign, refuse_full_disk, refuse_other, workplace
from export.policies.adapter import Policy
from export.progress import counted, working
from export.proof import Proofs, load_proofs, prove_variants, save_proofs
from export.triton_config import config_of
from export.triton_config.warmup import warmup_files

_SPARE_BYTES = 1 << 28  # golden vectors, tokenizer, and what the exporter writes on its way


def publish(policy: Policy, repository: Path, *, version: int, checkpoint: Path | None = None) -> tuple[Agreement, ...]:
    """Exports and proves `policy`; one agreement per output of the served variant. `checkpoint`: whose weights it was made from.

    Raises PlaceRefused, ManifestError, GoldenUnfit, RunnerUnavailable, RunFailed or ParityBroken before anything in `repository`
    changes.
    """
    manifest = _facts(policy, version)
    place = repository / manifest.policy
    refuse_foreign(place)
    refuse_other(place, manifest.family, version)
    with workplace(repository, manifest.policy) as scratch:
        fresh = scratch / manifest.policy
        golden = _build(policy, manifest, fresh)
        weights = {} if checkpoint is None else bundle.weight_hashes(checkpoint)
        proofs = _finish(fresh, _with_hashes(manifest, weights_sha256=weights), golden, proven={})
        put(fresh, place)
    return proofs[manifest.served]


def revise(folder: Path, change: Callable[[Path], Manifest]) -> tuple[Agreement, ...]:
    """Changes a published bundle as a whole: `change` gets a copy of it, adds files and returns the manifest with its variants.

    The bundle must be whole, for its hashes are written anew. The copy is made of hard links, so `change` must never write into
    a file that is there: remove it first. Config, hashes and card follow; variants that are new or have new files are proven.
    Raises BundleChanged and what `publish` raises; then nothing has changed.
    """
    before = load_manifest(folder)
    with workplace(folder.parent, folder.name) as scratch:
        bundle.refuse_changes(folder, before)
        fresh = scratch / folder.name
        shutil.copytree(folder, fresh, copy_function=os.link, ignore=shutil.ignore_patterns("__pycache__"))
        manifest = change(fresh)
        kept = _unchanged(before, manifest, folder, fresh)
        if manifest.served != before.served:
            kept.discard(manifest.served)  # proven elsewhere, perhaps: what is served must run here
        proven = {name: proof for name, proof in load_proofs(fresh).items() if name in kept}
        proofs = _finish(fresh, manifest, load_golden(fresh), proven=proven)
        put(fresh, folder)
    return proofs[manifest.served]


def serve_variant(folder: Path, name: str) -> tuple[Agreement, ...]:
    """Has Triton run another variant of a published bundle, proven here and now; one agreement per output.

    Raises ManifestError where the bundle has none of that name, and what `revise` raises; then nothing has changed.
    """
    names = [variant.name for variant in load_manifest(folder).variants]
    if name not in names:
        raise ManifestError(f"{folder}: has no variant {name!r}; it has {', '.join(names)}")
    return revise(folder, lambda fresh: load_manifest(fresh).model_copy(update={"served": name}))


def write_card(folder: Path) -> None:
    """Writes the card of the bundle in `folder`, from what lies there."""
    _write(folder / bundle.CARD_FILE, text_of(folder))


def _facts(policy: Policy, version: int) -> Manifest:
    try:
        return policy.manifest(version=version, sha256={})
    except ValidationError as error:  # what the operator said, or the checkpoint, contradicts itself
        raise ManifestError(faults_of(error)) from None


def _build(policy: Policy, manifest: Manifest, fresh: Path) -> Golden:
    """What only the family can give: graphs, files beside them, and the original network's answers."""
    served = bundle.version_folder(fresh, manifest)
    served.mkdir(parents=True)
    if policy.runner() != runner_file(manifest.served_variant):
        raise ManifestError(f"variants: the policy is served by {policy.runner().name}, {manifest.served} says otherwise")
    golden = _golden(policy, manifest)
    golden.refuse_unfit(manifest)
    with naming(fresh / bundle.GOLDEN_FILE):
        golden.save(fresh)
    graphs = policy.graphs()
    refuse_full_disk(served, _needed_bytes(graphs))
    for graph in graphs:
        with working(f"exporting {graph.file}"), naming(served / graph.file):
            graph_file.write(graph, served)
    for name, content in policy.files().items():
        _write(fresh / name, content if isinstance(content, bytes) else content.read_bytes())
    evaluation = policy.evaluation_file()
    if evaluation is not None and evaluation.exists():
        _copy(evaluation, fresh / bundle.EVALUATION_FILE)
    return golden


def _golden(policy: Policy, manifest: Manifest) -> Golden:
    """The original's answers, one example at a time: nothing of one can reach another."""
    examples = policy.examples()
    count = len(next(iter(examples.values())))
    names = [output.tensor for output in manifest.outputs]
    answers = []
    with torch.inference_mode(), counted("asking the original network", count) as tick:
        for row in range(count):
            answers.append(policy.answers({name: value[row : row + 1] for name, value in examples.items()}))
            tick()
    return Golden(
        inputs={name: value.numpy() for name, value in examples.items()},
        outputs={name: torch.cat(parts).numpy() for name, parts in zip(names, zip(*answers, strict=True), strict=True)},
    )


def _finish(fresh: Path, manifest: Manifest, golden: Golden, *, proven: Proofs) -> Proofs:
    """Everything that follows from graphs, golden vectors and facts."""
    served = bundle.version_folder(fresh, manifest)
    manifest = bundle.with_data_files(manifest, served)
    if manifest.instruction is not None:
        InstructionTokenizer(fresh, manifest.instruction)  # refuses a tokenizer that contradicts the manifest
    _copy(BACKEND / bundle.SHELL_FILE, served / bundle.SHELL_FILE)
    _copy(runner_file(manifest.served_variant), served / bundle.RUNNER_FILE)
    for part in parts_of(manifest.served_variant):
        _copy(part, served / part.name)
    measured, proofs = prove_variants(manifest, golden, served, proven=proven)
    config = config_of(measured)
    _write(fresh / bundle.CONFIG_FILE, config.text())
    for name, content in warmup_files(config.config, golden.inputs).items():
        _write(fresh / name, content)
    whole = _with_hashes(measured, sha256=bundle.hashes(fresh))
    _write(fresh / MANIFEST_FILE, whole.model_dump_json(indent=2) + "\n")
    load_manifest(fresh)  # what was written must load
    with naming(fresh / bundle.PARITY_FILE):
        save_proofs(fresh, proofs)
    write_card(fresh)
    return proofs


def _with_hashes(manifest: Manifest, **hashes: dict[str, str]) -> Manifest:
    return manifest.model_copy(update={"source": manifest.source.model_copy(update=hashes)})


def _unchanged(before: Manifest, after: Manifest, folder: Path, fresh: Path) -> set[str]:
    """The variants whose facts are the same and whose files are the very same ones: hard links of what was proven."""
    old, new = bundle.version_folder(folder, before), bundle.version_folder(fresh, after)
    same = [variant for variant in before.variants if variant in after.variants]
    return {one.name for one in same if all((new / file).exists() and (old / file).samefile(new / file) for file in one.files)}


def _needed_bytes(graphs: tuple[graph_file.Graph, ...]) -> int:
    """The graphs' weights, each once per file, and some to spare."""
    weights = 0
    for graph in graphs:
        tensors = {id(tensor): tensor for tensor in (*graph.module.parameters(), *graph.module.buffers())}
        weights += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return weights + _SPARE_BYTES


def _copy(source: Path, target: Path) -> None:
    _write(target, source.read_bytes())


def _write(path: Path, content: str | bytes) -> None:
    """Never into a file that is there: it may be a hard link of what is served."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    with naming(path):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
