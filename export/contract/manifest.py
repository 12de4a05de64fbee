"""The manifest: every fact about a policy that a caller, the exporter and the control plane must agree on.

Written by `export`, read at start-up by the control plane, stored as `model_repository/<policy>/manifest.json`. A missing or
contradictory fact refuses to load; nothing is guessed. It knows nothing of HTTP, Triton clients or torch.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MANIFEST_FILE = "manifest.json"

NonEmpty = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(gt=0)]


class ManifestError(Exception):
    """A manifest that cannot be trusted; the text names the file and each contradictory field."""


class ResizeRule(StrEnum):
    """How a camera image of any size becomes the policy's input size (PIL bicubic in both)."""

    NAIVE = "resize_naive"  # stretch to width × height, as OpenVLA does
    LETTERBOX = "letterbox"  # keep the aspect ratio, pad with black


class ActionKind(StrEnum):
    """What the numbers of one action mean; the guard picks its rules by this."""

    EE_DELTA_ROTVEC = "ee_delta_rotvec"
    EE_DELTA_EULER = "ee_delta_euler"
    EE_ABS = "ee_abs"
    JOINT_ABS = "joint_abs"
    JOINT_DELTA = "joint_delta"
    JOINT_VEL = "joint_vel"


class GripperPolarity(StrEnum):
    """Which end of the gripper's range means open."""

    ONE_IS_CLOSED = "one_is_closed"
    ONE_IS_OPEN = "one_is_open"


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Camera(_Fact):
    """One camera: what the caller must send and the uint8 HWC RGB tensor it becomes."""

    name: NonEmpty
    is_required: bool
    width: PositiveInt
    height: PositiveInt
    resize: ResizeRule
    tensor: NonEmpty


class State(_Fact):
    """Robot state. When `is_required` is false, `mask_tensor` tells the graph whether it was sent: it is never invented."""

    names: tuple[NonEmpty, ...]
    units: tuple[NonEmpty, ...]
    is_required: bool
    tensor: NonEmpty
    mask_tensor: NonEmpty | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(self.names) != len(self.units):
            raise ValueError("state.names and state.units differ in length")
        if not self.is_required and self.mask_tensor is None:
            raise ValueError("state.mask_tensor is needed when state is optional")
        return self


class Instruction(_Fact):
    """How the instruction becomes token ids (int64, padded with `pad_id` to `max_tokens`)."""

    template: NonEmpty  # contains "{instruction}"
    lowercase: bool
    tokenizer_file: NonEmpty  # relative to the manifest
    max_tokens: PositiveInt
    pad_id: int
    max_chars: PositiveInt
    tensor: NonEmpty

    @model_validator(mode="after")
    def _has_a_place_for_the_instruction(self) -> Self:
        if "{instruction}" not in self.template:
            raise ValueError("instruction.template lacks {instruction}")
        return self


class Action(_Fact):
    """The action chunk: float32 (horizon, len(names)), already in physical units when it leaves the graph."""

    kind: ActionKind
    names: tuple[NonEmpty, ...]
    units: tuple[NonEmpty, ...]
    frame: NonEmpty
    gripper_polarity: GripperPolarity | None
    horizon: PositiveInt
    control_hz: Annotated[float, Field(gt=0)]
    tensor: NonEmpty
    unnorm_keys: tuple[NonEmpty, ...]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(self.names) != len(self.units):
            raise ValueError("action.names and action.units differ in length")
        return self


class Output(_Fact):
    """A tensor the served graph answers with, and how far it may be from the original network."""

    tensor: NonEmpty
    dtype: NonEmpty
    shape: tuple[int, ...]  # without the batch dimension
    atol: Annotated[float, Field(ge=0)]


class Source(_Fact):
    """Where the weights came from; `sha256` per file of the bundle."""

    checkpoint: NonEmpty
    command: NonEmpty
    licence: NonEmpty
    sha256: dict[str, str]


class Manifest(_Fact):
    """All facts about one policy version. Load with `load_manifest`, never by hand."""

    schema_version: Literal[1]
    policy: NonEmpty
    version: PositiveInt
    family: NonEmpty
    description: NonEmpty
    source: Source
    cameras: Annotated[tuple[Camera, ...], Field(min_length=1)]
    state: State | None
    instruction: Instruction
    action: Action
    robots: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    runtimes: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError("cameras: names repeat")
        if self.action.tensor not in {output.tensor for output in self.outputs}:
            raise ValueError(f"action.tensor {self.action.tensor!r} is not among outputs")
        shape = (self.action.horizon, len(self.action.names))
        served = next(output for output in self.outputs if output.tensor == self.action.tensor)
        if served.shape != shape:
            raise ValueError(f"outputs[{self.action.tensor}].shape is {served.shape}, horizon × names is {shape}")
        return self

    @property
    def primary_camera(self) -> Camera:
        """The camera that a bare `image` field means: the first one listed."""
        return self.cameras[0]


def load_manifest(folder: Path) -> Manifest:
    """Reads `folder/manifest.json`. Raises ManifestError naming the file and every fault."""
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ManifestError(f"{path}: no manifest") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}" for fault in error.errors())
        raise ManifestError(f"{path}: {faults}") from None
