"""The policies this process serves: each manifest of the model repository with its tokenizer, read at start-up and on `reload`.

    model_repository/<policy>/             one version
    model_repository/<policy>.<version>/   another one beside it, a model of its own in Triton

A folder whose manifest cannot be trusted stops start-up, and a reload is refused as a whole; nothing is served half-known. Knows
no request, no customer and calls no Triton: who may use what is `choose.py`'s business, whether it answers `readiness.py`'s.
"""

from collections.abc import Iterable, Mapping
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
    folder: str = ""  # its folder's name, which is the model's name in Triton; the policy's own where it is empty

    @property
    def name(self) -> str:
        """The policy's id."""
        return self.manifest.policy

    @property
    def version(self) -> int:
        """Its number."""
        return self.manifest.version

    @property
    def model(self) -> str:
        """What Triton calls it."""
        return self.folder or self.manifest.policy


class Catalogue:
    """Every served policy by name: in `policies` the version of its own folder (else the oldest), all of them in `versions`.

    One object per process, whose content `adopt` replaces at once, so that whoever holds it never sees half a reload. `default`
    is the deployment's own; an operator may choose another while it runs (`standing.py`).
    """

    def __init__(self, policies: Mapping[str, ServedPolicy] | Iterable[ServedPolicy], default: str) -> None:
        served = policies.values() if isinstance(policies, Mapping) else policies
        self.default = default
        self.versions: Mapping[str, Mapping[int, ServedPolicy]] = _by_version(served)
        self.policies: Mapping[str, ServedPolicy] = _own(self.versions)

    def find(self, name: str | None, version: int | None = None) -> ServedPolicy | None:
        """The policy of that name (the default one for None) in that version (its own folder's for None), or None."""
        name = self.default if name is None else name
        return self.policies.get(name) if version is None else self.versions.get(name, {}).get(version)

    def everything(self) -> tuple[ServedPolicy, ...]:
        """All versions of all policies."""
        return tuple(policy for versions in self.versions.values() for policy in versions.values())

    def adopt(self, other: "Catalogue") -> None:
        """Serves from now on what `other` does."""
        self.versions, self.policies = other.versions, other.policies


def _by_version(served: Iterable[ServedPolicy]) -> Mapping[str, Mapping[int, ServedPolicy]]:
    found: dict[str, dict[int, ServedPolicy]] = {}
    for policy in sorted(served, key=lambda one: (one.name, one.version)):
        known = found.setdefault(policy.name, {})
        if policy.version in known:
            raise ManifestError(
                f"{policy.model} and {known[policy.version].model} both hold {policy.name} version {policy.version}"
            )
        known[policy.version] = policy
    return MappingProxyType({name: MappingProxyType(versions) for name, versions in found.items()})


def _own(versions: Mapping[str, Mapping[int, ServedPolicy]]) -> Mapping[str, ServedPolicy]:
    """A version that lies beside answers nobody who has not asked for it."""
    return MappingProxyType(
        {name: next((one for one in known.values() if one.model == name), known[min(known)]) for name, known in versions.items()}
    )


def load_catalogue(repository: Path, *, default: str) -> Catalogue:
    """Reads every sub-folder of `repository`. Raises ManifestError naming the folder at fault."""
    folders = sorted(path for path in repository.iterdir() if path.is_dir()) if repository.is_dir() else []
    catalogue = Catalogue(map(_load, folders), default)
    if default not in catalogue.policies:
        raise ManifestError(f"{repository}: there is no policy {default!r}, which is the default")
    return catalogue


def _load(folder: Path) -> ServedPolicy:
    manifest = load_manifest(folder)
    if folder.name not in {manifest.policy, f"{manifest.policy}.{manifest.version}"}:
        held = f"policy {manifest.policy!r} version {manifest.version}"
        raise ManifestError(f"{folder}: the manifest says {held}; the folder must have the same name")
    spec = manifest.instruction
    tokenizer = None if spec is None else InstructionTokenizer(folder, spec)
    return ServedPolicy(manifest=manifest, tokenizer=tokenizer, folder=folder.name)
