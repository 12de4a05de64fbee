"""The manifest: every fact about a policy that a caller, the exporter and the control plane must agree on.

Written by `export`, read at start-up by the control plane, stored as `model_repository/<policy>/manifest.json`. A missing or
contradictory fact refuses to load; nothing is guessed. It knows nothing of HTTP, Triton clients or torch.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from export.contract.facts import Action, Camera, Instruction, Noise, Output, State, Tokens
from export.contract.runtime import Sha256, Variant
from export.contract.statistics import Fact, NonEmpty, PositiveInt

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 2

# It names a folder, a model in Triton and a label in metrics.
PolicyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class ManifestError(Exception):
    """A manifest that cannot be trusted; the text names the file and each contradictory field."""


class Source(Fact):
    """Where the weights came from; `sha256` per file of the bundle, `weights_sha256` per file of weights in the checkpoint."""

    checkpoint: NonEmpty
    command: NonEmpty
    licence: NonEmpty
    sha256: dict[str, Sha256]
    weights_sha256: dict[str, Sha256] = Field(default_factory=dict)


class Manifest(Fact):
    """All facts about one policy version. Load with `load_manifest`, never by hand."""

    schema_version: Literal[2]
    policy: PolicyName
    version: PositiveInt
    family: NonEmpty
    description: NonEmpty
    source: Source
    cameras: Annotated[tuple[Camera, ...], Field(min_length=1)]
    instruction: Instruction | None  # None: the policy takes no words
    state: State | None
    noise: Noise | None = None
    action: Action
    tokens: Tokens | None = None
    robots: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    served: NonEmpty  # the name of the variant that Triton runs

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        faults = [*_repeats(self), *_output_faults(self), *_token_faults(self), *_statistics_faults(self), *_variant_faults(self)]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def primary_camera(self) -> Camera:
        """The camera that a bare `image` field means: the first one listed."""
        return self.cameras[0]

    @property
    def served_variant(self) -> Variant:
        """The variant that Triton runs."""
        return next(variant for variant in self.variants if variant.name == self.served)


def load_manifest(folder: Path) -> Manifest:
    """Reads `folder/manifest.json`. Raises ManifestError naming the file and every fault."""
    path = folder / MANIFEST_FILE
    try:
        text = path.read_bytes()
        _refuse_other_schema(path, text)
        manifest = Manifest.model_validate_json(text)
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(f"{path}: no manifest") from None
    except ValidationError as error:
        raise ManifestError(f"{path}: {faults_of(error)}") from None
    unsaid = list(_unsaid(json.loads(text), manifest.model_dump(mode="json"), ()))
    if unsaid:
        raise ManifestError(f"{path}: {', '.join(unsaid)}: missing; a default would be a guess")
    return manifest


def _unsaid(said: object, meant: object, place: tuple[str, ...]) -> Iterator[str]:
    """Facts of `meant` that the file does not say, by their place: defaults are for whoever writes a manifest in Python."""
    if isinstance(said, dict) and isinstance(meant, dict):
        yield from (".".join((*place, key)) for key in meant if key not in said)
        yield from (fault for key in meant if key in said for fault in _unsaid(said[key], meant[key], (*place, key)))
    if isinstance(said, list) and isinstance(meant, list):
        pairs = enumerate(zip(said, meant, strict=True))
        yield from (fault for number, pair in pairs for fault in _unsaid(*pair, (*place, str(number))))


def faults_of(error: ValidationError) -> str:
    """Every fault in one line, each after the name of its field."""
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}" for fault in error.errors())


def _refuse_other_schema(path: Path, text: bytes) -> None:
    """A manifest of another age would fail in twenty places at once; one sentence says what to do instead."""
    try:
        found = json.loads(text)
    except ValueError:
        raise ManifestError(f"{path}: manifest: not JSON") from None
    version = found.get("schema_version") if isinstance(found, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        advice = "export it again" if version < SCHEMA_VERSION else "it needs a newer vlaapi"
        raise ManifestError(f"{path}: schema_version: is {version}, this vlaapi reads {SCHEMA_VERSION}: {advice}")


def _input_names(manifest: Manifest) -> Iterator[str]:
    optional = [camera.mask_tensor for camera in manifest.cameras]
    optional += [manifest.instruction.tensor if manifest.instruction else None]
    optional += [manifest.state.tensor, manifest.state.mask_tensor] if manifest.state else []
    optional += [manifest.noise.tensor if manifest.noise else None, manifest.action.unnorm_tensor]
    yield from (camera.tensor for camera in manifest.cameras)
    yield from (name for name in optional if name is not None)


def _repeats(manifest: Manifest) -> Iterator[str]:
    tensors = (*_input_names(manifest), *(output.tensor for output in manifest.outputs))
    listed = {
        "cameras: name": [camera.name for camera in manifest.cameras],
        "robots:": manifest.robots,
        "variants: name": [variant.name for variant in manifest.variants],
        "tensor:": tensors,
    }
    for what, names in listed.items():
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            yield f"{what} {', '.join(map(repr, twice))} repeats"


def _output_faults(manifest: Manifest) -> Iterator[str]:
    shape = (manifest.action.horizon, len(manifest.action.names))
    yield from _output_fault(manifest, "action.tensor", manifest.action.tensor, dtype="float32", shape=shape)


def _token_faults(manifest: Manifest) -> Iterator[str]:
    tokens, outputs = manifest.tokens, {output.tensor: output for output in manifest.outputs}
    if tokens is None:
        return
    shape = outputs[tokens.tensor].shape if tokens.tensor in outputs else None
    if shape is not None and len(shape) != 1:
        yield f"outputs[{tokens.tensor}].shape is {shape}, tokens.tensor needs (n,)"
        return
    yield from _output_fault(manifest, "tokens.tensor", tokens.tensor, dtype="int64", shape=shape)
    yield from _output_fault(manifest, "tokens.is_action_tensor", tokens.is_action_tensor, dtype="uint8", shape=shape)
    yield from _output_fault(manifest, "tokens.logprob_tensor", tokens.logprob_tensor, dtype="float32", shape=shape)
    yield from _output_fault(manifest, "tokens.entropy_tensor", tokens.entropy_tensor, dtype="float32", shape=shape)


def _output_fault(manifest: Manifest, field: str, tensor: str, *, dtype: str, shape: tuple[int, ...] | None) -> Iterator[str]:
    found = next((output for output in manifest.outputs if output.tensor == tensor), None)
    if found is None:
        yield f"{field} {tensor!r} is not among outputs"
    elif found.dtype != dtype:
        yield f"outputs[{tensor}].dtype is {found.dtype}, {field} needs {dtype}"
    elif shape is not None and found.shape != shape:
        yield f"outputs[{tensor}].shape is {found.shape}, {field} needs {shape}"


def _statistics_faults(manifest: Manifest) -> Iterator[str]:
    keys = set(manifest.action.unnorm_keys)
    found = manifest.state.statistics.keys() if manifest.state else set()
    if found and found != keys:
        yield f"state.statistics are of {sorted(found)}, action.unnorm_keys are {sorted(keys)}"


def _variant_faults(manifest: Manifest) -> Iterator[str]:
    if manifest.served not in {variant.name for variant in manifest.variants}:
        yield f"served {manifest.served!r} is not among variants"
    for variant in manifest.variants:
        if variant.token_agreement is not None and manifest.tokens is None:
            yield f"variants[{variant.name}].token_agreement without tokens"
        unknown = variant.tolerances.keys() - {output.tensor for output in manifest.outputs}
        if unknown:
            yield f"variants[{variant.name}].tolerances of {sorted(unknown)}, which are not among outputs"
        yield from _parameter_faults(variant, manifest.instruction)
        if variant.tolerances and variant.precision == "fp32":
            yield f"variants[{variant.name}].tolerances: fp32 is held to the outputs' own"


def _parameter_faults(variant: Variant, words: Instruction | None) -> Iterator[str]:
    """A runner that is told of prompts must be told what the manifest says."""
    said = {} if words is None else {"buckets": ",".join(map(str, words.buckets)), "pad_id": str(words.pad_id)}
    for name, value in said.items():
        found = variant.parameters.get(name, value)
        if found != value:
            yield f"variants[{variant.name}].parameters.{name} is {found}, instruction.{name} is {value}"
