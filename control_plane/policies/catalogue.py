"""The policies this process serves: each manifest of the model repository with its tokenizer, read once at start-up.

A folder whose manifest cannot be trusted stops start-up; nothing is served half-known. Knows no request and calls no Triton:
whether a policy answers is `readiness.py`'s business.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from export.contract.manifest import Manifest, ManifestError, load_manifest
from export.contract.tokenize import InstructionTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPolicy:
    """One policy version with what is needed to speak to it."""

    manifest: Manifest
    tokenizer: InstructionTokenizer | None  # None where the policy takes no words

    @property
    def name(self) -> str:
        """The policy's id, which is also the model's name in Triton."""
        return self.manifest.policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every served policy by name; `default` answers requests that name none."""

    policies: Mapping[str, ServedPolicy]
    default: str

    def find(self, name: str | None) -> ServedPolicy | None:
        """The policy of that name (the default one for None), or None."""
        return self.policies.get(self.default if name is None else name)


def load_catalogue(repository: Path, *, default: str) -> Catalogue:
    """Reads every sub-folder of `repository`. Raises ManifestError naming the folder at fault."""
    folders = sorted(path for path in repository.iterdir() if path.is_dir()) if repository.is_dir() else []
    policies = {policy.name: policy for policy in map(_load, folders)}
    if default not in policies:
        raise ManifestError(f"{repository}: there is no policy {default!r}, which is the default")
    return Catalogue(policies=MappingProxyType(policies), default=default)


def _load(folder: Path) -> ServedPolicy:
    manifest = load_manifest(folder)
    if manifest.policy != folder.name:
        raise ManifestError(f"{folder}: the manifest says policy {manifest.policy!r}; the folder must have the same name")
    spec = manifest.instruction
    return ServedPolicy(manifest=manifest, tokenizer=None if spec is None else InstructionTokenizer(folder, spec))
