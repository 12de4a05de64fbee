"""What goes over a policy's border: pictures, words, state, noise in; actions and tokens out.

Each class is one part of the manifest and refuses what contradicts itself; what contradicts another part is refused by
`manifest.py`. Tensor shapes are without the batch dimension. It knows no graph, no HTTP and no robot.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from export.contract.statistics import Fact, NonEmpty, NonNegative, PositiveInt, Statistics

# A file beside the manifest, never a way out of its folder.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
ColourValue = Annotated[int, Field(ge=0, le=255)]
Dtype = Literal["float32", "int64", "uint8"]


class ResizeRule(StrEnum):
    """How a camera image of any size becomes the policy's input size."""

    NAIVE = "resize_naive"  # stretch to width × height by PIL's bicubic, as OpenVLA does
    LANCZOS3 = "lanczos3"  # stretch by TensorFlow's antialiased Lanczos, as RLDS data sets and so OpenVLA-OFT do
    LETTERBOX = "letterbox"  # bicubic, but keep the aspect ratio: pad to a square with `fill` first, as Prismatic does


class Channels(StrEnum):
    """The order of a pixel's three bytes in the tensor."""

    RGB = "rgb"
    BGR = "bgr"


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


class Camera(Fact):
    """One camera: what the caller must send and the uint8 (height, width, 3) tensor it becomes, by `contract.preprocess`.

    `mask_tensor` (float32 [1], 1 where sent) is there exactly when the camera may be left out: a picture is never invented.
    """

    name: NonEmpty
    is_required: bool
    width: PositiveInt
    height: PositiveInt
    resize: ResizeRule
    fill: tuple[ColourValue, ColourValue, ColourValue] | None = None  # RGB of the letterbox' border
    rotate_180: bool = False
    crop_area: Annotated[float, Field(gt=0, le=1)] | None = None  # share of the area that the centre crop keeps
    channels: Channels = Channels.RGB
    tensor: NonEmpty
    mask_tensor: NonEmpty | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        is_letterbox = self.resize is ResizeRule.LETTERBOX
        if is_letterbox != (self.fill is not None):
            raise ValueError("fill is the letterbox' border colour: needed there, out of place elsewhere")
        if is_letterbox and self.width != self.height:
            raise ValueError(f"letterbox makes a square, not {self.width}×{self.height} (width, height)")
        if self.is_required != (self.mask_tensor is None):
            raise ValueError("mask_tensor is needed when the camera is optional, and out of place when it is required")
        return self


class State(Fact):
    """Robot state, float32 (len(names),) in physical units. `mask_tensor` (float32 [1]) tells an optional state from none.

    `statistics` by un-normalisation key say how the graph scales it; the wire carries the numbers as they are.
    """

    names: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
    units: tuple[NonEmpty, ...]
    is_required: bool
    tensor: NonEmpty
    mask_tensor: NonEmpty | None = None
    statistics: dict[str, Statistics] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _same_length(self.names, self.units, self.statistics)
        if self.is_required != (self.mask_tensor is None):
            raise ValueError("mask_tensor is needed when state is optional, and out of place when it is required")
        return self


class Instruction(Fact):
    """How the instruction becomes int64 [max_tokens] ids: template, tokenizer, `append_id` unless it is last, then `pad_id`.

    The wire is always `max_tokens` long. `pad_id` never occurs in a prompt, so graph or runner read the length off it and may cut
    a batch to the smallest of `buckets` that holds its longest prompt.
    """

    template: NonEmpty  # contains "{instruction}"
    lowercase: bool  # of the instruction, not of the template
    tokenizer_file: FileName
    append_id: Annotated[int, Field(ge=0)] | None
    max_tokens: PositiveInt
    buckets: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    pad_id: Annotated[int, Field(ge=0)]
    max_chars: PositiveInt
    tensor: NonEmpty

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.template.count("{instruction}") != 1:
            raise ValueError("template must hold {instruction} once")
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"buckets must ascend: {self.buckets}")
        if self.buckets[-1] != self.max_tokens:
            raise ValueError(f"buckets must end with max_tokens, {self.max_tokens}: {self.buckets}")
        if self.append_id == self.pad_id:
            raise ValueError(f"append_id and pad_id are both {self.pad_id}")
        return self


class Action(Fact):
    """The action chunk: float32 (horizon, len(names)), already in physical units when it leaves the graph.

    Where `unnorm_tensor` is set, the wire carries an int64 [1] index into `unnorm_keys`: the graph holds a table of `statistics`.
    """

    kind: ActionKind
    names: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
    units: tuple[NonEmpty, ...]
    frame: NonEmpty
    gripper_polarity: GripperPolarity | None
    horizon: PositiveInt
    control_hz: Annotated[float, Field(gt=0)]
    tensor: NonEmpty
    unnorm_keys: tuple[NonEmpty, ...]
    statistics: dict[str, Statistics] = Field(default_factory=dict)
    unnorm_tensor: NonEmpty | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _same_length(self.names, self.units, self.statistics)
        if len(set(self.unnorm_keys)) != len(self.unnorm_keys):
            raise ValueError("unnorm_keys repeat")
        if self.unnorm_tensor is None and len(self.unnorm_keys) > 1:
            raise ValueError("unnorm_tensor is needed to choose between several unnorm_keys")
        if self.unnorm_tensor is not None and not self.unnorm_keys:
            raise ValueError("unnorm_tensor chooses between unnorm_keys, and there are none")
        missing = set(self.unnorm_keys) - self.statistics.keys()
        if missing and (self.unnorm_tensor is not None or self.statistics):
            raise ValueError(f"statistics lack {sorted(missing)}")
        unknown = self.statistics.keys() - set(self.unnorm_keys)
        if unknown:
            raise ValueError(f"statistics of {sorted(unknown)}, which are not among unnorm_keys")
        return self


class Noise(Fact):
    """Standard-normal float32 noise that a flow policy starts from: an input, so that the same noise gives the same action."""

    tensor: NonEmpty
    shape: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class Tokens(Fact):
    """The extra outputs of a policy that speaks in tokens, all of shape (n,).

    `tensor` int64 ids; `is_action_tensor` uint8, 0 where the id is no action token; `logprob_tensor` and `entropy_tensor`
    float32, in nats, of a distribution over `vocabulary` ids, so that no entropy is above its logarithm. Bundles of before do not
    say how many.
    """

    tensor: NonEmpty
    is_action_tensor: NonEmpty
    logprob_tensor: NonEmpty
    entropy_tensor: NonEmpty
    vocabulary: Annotated[int, Field(ge=2)] | None = None


class Output(Fact):
    """A tensor the served graph answers with, and how far it may be from the original network; whole numbers must be equal."""

    tensor: NonEmpty
    dtype: Dtype
    shape: tuple[PositiveInt, ...]
    atol: NonNegative

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.dtype != "float32" and self.atol != 0:
            raise ValueError(f"atol of {self.dtype} must be 0, not {self.atol:g}")
        return self


def _same_length(names: tuple[str, ...], units: tuple[str, ...], statistics: dict[str, Statistics]) -> None:
    if len(set(names)) != len(names):
        raise ValueError("names repeat")
    if len(names) != len(units):
        raise ValueError(f"names and units differ in length: {len(names)}, {len(units)}")
    for key, one in statistics.items():
        if one.length != len(names):
            raise ValueError(f"statistics[{key}] scale {one.length} numbers, names has {len(names)}")
