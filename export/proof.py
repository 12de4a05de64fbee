"""Which variants of a bundle were proven, and with what result: measured once, kept beside the manifest as `parity.json`.

The file also holds the manifest's own hash: facts that were changed by hand are not those that were proven. Used by `publish`
and shown by the card. The reference and the served variant must run and agree here; another that cannot run on this machine is
left as its manifest says.
"""

import json
from dataclasses import asdict
from pathlib import Path

from export.bundle import MANIFEST_HASH, PARITY_FILE, sha256_of
from export.contract.manifest import MANIFEST_FILE, Manifest
from export.contract.runtime import Variant
from export.golden import Golden
from export.in_process import RunFailed, RunnerUnavailable, open_runner, runner_file
from export.parity import REFERENCE_PRECISION, Agreement, token_agreement, worst
from export.verify import agree

Proofs = dict[str, tuple[Agreement, ...]]  # by variant


def prove_variants(manifest: Manifest, golden: Golden, served: Path, *, proven: Proofs) -> tuple[Manifest, Proofs]:
    """The manifest with the token agreement of each variant that ran, and one agreement per output of each.

    `served` is the version's folder. Raises ParityBroken; RunnerUnavailable or RunFailed for what must run here.
    """
    proofs = {name: proof for name, proof in proven.items() if name in {variant.name for variant in manifest.variants}}
    variants = []
    for variant in manifest.variants:
        if variant.name not in proofs:
            try:
                proofs[variant.name] = _prove(variant, manifest, golden, served)
            except (RunnerUnavailable, RunFailed):
                if variant.name == manifest.served or (variant.precision == REFERENCE_PRECISION and variant.plan is None):
                    raise
                variants.append(variant)
                continue
        share = token_agreement(proofs[variant.name], manifest)
        variants.append(variant.model_copy(update={"token_agreement": share}))
    return manifest.model_copy(update={"variants": tuple(variants)}), proofs


def save_proofs(folder: Path, proofs: Proofs) -> None:
    """Writes them beside the manifest, which must be there and final."""
    path = folder / PARITY_FILE
    path.unlink(missing_ok=True)
    listed = {name: [asdict(one) for one in proof] for name, proof in proofs.items()}
    whole = {MANIFEST_HASH: sha256_of(folder / MANIFEST_FILE), "variants": listed}
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def load_proofs(folder: Path) -> Proofs:
    """What was proven; nothing where the file is missing or no longer what was written."""
    try:
        found = json.loads((folder / PARITY_FILE).read_text(encoding="utf-8"))
        return {name: tuple(Agreement(**one) for one in proof) for name, proof in found["variants"].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _prove(variant: Variant, manifest: Manifest, golden: Golden, served: Path) -> tuple[Agreement, ...]:
    """Measured afresh: what the variant says of itself is no yardstick. What was played before a plan was built is one."""
    judged = variant if variant.plan else variant.model_copy(update={"token_agreement": None})
    return worst(agree(open_runner(runner_file(variant), served, variant), golden, manifest, judged))
