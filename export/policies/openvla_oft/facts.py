"""What the manifest says about an OFT checkpoint: cameras, words, state, actions, from its configuration, recipe and statistics.

It knows no weights, so a checkpoint whose facts contradict each other fails before gigabytes are read. Called by `policy`.
"""

from dataclasses import dataclass
from pathlib import Path

from export.contract.facts import Action, Camera, Instruction, Output, ResizeRule, State
from export.contract.manifest import Manifest, Source
from export.contract.runtime import Variant
from export.in_process import BACKEND
from export.policies.adapter import CheckpointError, CheckpointOptions
from export.policies.openvla.config import OpenVlaConfig
from export.policies.openvla.prompt import read_instruction
from export.policies.openvla_oft.recipe import Recipe
from export.policies.openvla_oft.statistics import Scaling

FAMILY, VARIANT, MODEL_FILE = "openvla_oft", "onnx-cpu-fp32", "model.onnx"
RUNNER = BACKEND / "onnx_graph.py"
TEMPLATE = "In: What action should the robot take to {instruction}?\nOut:"  # of every base model, unlike OpenVLA's own
MIN_TOKENS = 80  # 60 for the instruction; each costs a place in every request's sequence
TOLERANCE = 2e-4  # of the actions' units
# The names of `network.Served.forward`'s parameters.
CAMERA_TENSORS = ("image", "image_2", "image_3", "image_4")
IDS_TENSOR, STATE_TENSOR, UNNORM_TENSOR, ACTION_TENSOR = "instruction_ids", "state", "unnorm_index", "action"


def read_prompt(folder: Path, config: OpenVlaConfig) -> Instruction:
    """OpenVLA's prompt in one fixed length: the graph is static, so there is nothing to cut. Raises CheckpointError."""
    found = read_instruction(folder, config, tensor=IDS_TENSOR)
    length = min(bucket for bucket in found.buckets if bucket >= MIN_TOKENS)
    return found.model_copy(update={"template": TEMPLATE, "max_tokens": length, "buckets": (length,)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything but the weights; `scaling` is in the order of the un-normalisation index."""

    options: CheckpointOptions
    config: OpenVlaConfig
    recipe: Recipe
    scaling: dict[str, Scaling]
    instruction: Instruction

    @property
    def keys(self) -> tuple[str, ...]:
        """The un-normalisation keys."""
        return tuple(self.scaling)

    def manifest(self, *, version: int, sha256: dict[str, str]) -> Manifest:
        """See `Policy.manifest`."""
        options, action = self.options, self.action()
        return Manifest(
            schema_version=2,
            policy=options.name,
            version=version,
            family=FAMILY,
            description=self._description(),
            source=Source(
                checkpoint=options.checkpoint.resolve().name,
                command=options.command("openvla-oft", version=version),
                licence=options.licence or "not stated by the checkpoint",
                sha256=sha256,
            ),
            cameras=self.cameras(),
            instruction=self.instruction,
            state=self.state(),
            action=action,
            robots=self._robots(),
            outputs=(Output(tensor=ACTION_TENSOR, dtype="float32", shape=(action.horizon, len(action.names)), atol=TOLERANCE),),
            variants=(Variant(name=VARIANT, precision="fp32", runner=RUNNER.stem, files=(MODEL_FILE,)),),
            served=VARIANT,
        )

    def cameras(self) -> tuple[Camera, ...]:
        """In the order in which the network reads their patches; the first is the one that a bare `image` means.

        Other sizes are resized as the data sets were, before the original's processor sees them, whose rule then has no effect.
        """
        recipe, side = self.recipe, self.config.image_size
        return tuple(
            Camera(
                name=name,
                is_required=True,
                width=side,
                height=side,
                resize=ResizeRule.LANCZOS3,
                rotate_180=recipe.rotate_180,
                crop_area=recipe.crop_area,
                tensor=tensor,
            )
            for name, tensor in zip(recipe.cameras, CAMERA_TENSORS, strict=False)
        )

    def state(self) -> State | None:
        """The robot state, where the policy was trained with one."""
        statistics = {key: one.state for key, one in self.scaling.items() if one.state is not None}
        if not statistics:
            return None
        numbers = self.recipe.state
        return State(names=numbers.names, units=numbers.units, is_required=True, tensor=STATE_TENSOR, statistics=dict(statistics))

    def action(self) -> Action:
        """The chunk. Raises CheckpointError when nothing says how fast it is to be played."""
        recipe = self.recipe
        control_hz = self.options.control_hz or recipe.control_hz
        if control_hz is None:
            raise CheckpointError(
                f"{self.options.checkpoint}: nothing says how many steps a second it controls; give --control-hz"
            )
        return Action(
            kind=recipe.kind,
            names=recipe.action.names,
            units=recipe.action.units,
            frame=recipe.frame,
            gripper_polarity=recipe.gripper,
            horizon=recipe.chunk,
            control_hz=control_hz,
            tensor=ACTION_TENSOR,
            unnorm_keys=self.keys,
            statistics={key: one.action for key, one in self.scaling.items()},
            unnorm_tensor=UNNORM_TENSOR,
        )

    def _robots(self) -> tuple[str, ...]:
        robots = self.options.robots or self.recipe.robots
        if not robots:
            raise CheckpointError(f"{self.options.checkpoint}: nothing says which robot it is for; give --robot")
        return robots

    def _description(self) -> str:
        recipe = self.recipe
        what = f"OpenVLA-OFT, L1 regression: chunks of {recipe.chunk} from {', '.join(recipe.cameras)}"
        return f"{what}; Llama of width {self.config.text.hidden_size}. {recipe.note}".strip()
