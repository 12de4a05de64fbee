"""Reads LeRobot's checkpoint folder: `config.json`, `model.safetensors`, `train_config.json`, the saved processor pipelines.

Every fault is a CheckpointError of one line that names the file. It knows no network: a family says which settings it needs and
which weights its modules take. Nothing is fetched and no code of a checkpoint is run.
"""

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from export.policies.adapter import CheckpointError
from export.progress import counted

CONFIG_FILE, WEIGHTS_FILE, TRAINING_FILE = "config.json", "model.safetensors", "train_config.json"
STATE, ACTION = "observation.state", "action"
_COMPILED = "_orig_mod."  # torch.compile leaves it in the names of what it wrapped

Weights = dict[str, Tensor]
# The most that is believed: a size that no network has would not fail but hang, or fill the memory.
Size = Annotated[int, Field(gt=0, le=1_000_000)]
Repeats = Annotated[int, Field(gt=0, le=1_000)]  # layers, steps
_MOST_PIXELS = 10_000


class FeatureType(StrEnum):
    """What an input or output of a policy is."""

    VISUAL = "VISUAL"
    STATE = "STATE"
    ENV = "ENV"
    ACTION = "ACTION"


class Feature(BaseModel):
    """One input or output; pictures are (channels, height, width)."""

    model_config = ConfigDict(frozen=True)
    type: FeatureType
    shape: tuple[Size, ...]


class Settings(BaseModel):
    """What `config.json` says in every family; the rest of the file is about training."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)
    type: str
    n_obs_steps: int
    chunk_size: Size
    n_action_steps: Size
    input_features: dict[str, Feature]
    output_features: dict[str, Feature]
    normalization_mapping: dict[str, str]
    use_peft: bool = False
    empty_cameras: Annotated[int, Field(ge=0, le=1_000)] = (
        0  # that the pre-training knew and this robot has not: always black, so never asked for
    )

    @property
    def inputs(self) -> dict[str, Feature]:
        """What the robot sends."""
        absent = {f"observation.images.empty_camera_{index}" for index in range(self.empty_cameras)}
        return {key: one for key, one in self.input_features.items() if key not in absent}

    @property
    def pictures(self) -> dict[str, Feature]:
        """The cameras in the order in which the network sees them."""
        return {key: one for key, one in self.inputs.items() if one.type is FeatureType.VISUAL}

    def vector(self, kind: FeatureType) -> tuple[str, int] | None:
        """Key and length of the input of this type, if there is one."""
        found = [(key, one.shape[0]) for key, one in self.inputs.items() if one.type is kind]
        return found[0] if found else None

    @property
    def action_size(self) -> int:
        """How many numbers one action has."""
        return self.output_features[ACTION].shape[0]


S = TypeVar("S", bound=Settings)


def read_settings(folder: Path, family: str, shape: type[S]) -> S:
    """`config.json` of a policy of `family`. Raises CheckpointError where this exporter cannot do what it says."""
    path = folder / CONFIG_FILE
    found = read_json(path)
    if "type" not in found:
        raise CheckpointError(
            f"{path}: has no 'type': not a LeRobot policy, or from before 2025: load and save it with LeRobot 0.3"
        )
    if found["type"] != family:
        raise CheckpointError(f"{path}: is a {found['type']!r} policy, not {family!r}: export it as what it is")
    try:
        settings = shape.model_validate(found)
    except ValidationError as error:
        fault = error.errors()[0]
        raise CheckpointError(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
    _refuse_unknown_features(path, settings)
    return settings


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file."""
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise CheckpointError(f"{path}: not a file; fetch it again")
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not there; give the folder that LeRobot saved, often named pretrained_model") from None
    except RecursionError:
        raise CheckpointError(f"{path}: cannot be read as JSON: nested too deeply; fetch it again") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds no object")
    return found


def read_tensors(path: Path) -> Weights:
    """Every tensor of a safetensors file, as it is stored."""
    if not path.is_file():
        raise CheckpointError(f"{path}: not there; the checkpoint is not complete")
    try:
        with safe_open(path, framework="pt") as file:
            return {name.replace(_COMPILED, ""): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or cut short, fetch it again: {error}") from None


def load(module: nn.Module, weights: Weights, where: Path) -> None:
    """Puts float32 `weights` into `module`, which may be on the meta device. Every name and shape must be there, none besides."""
    wanted = module.state_dict()
    _refuse_names(where, "lacks", wanted.keys() - weights.keys())
    _refuse_names(where, "holds weights that this network has no place for:", weights.keys() - wanted.keys())
    found = {}
    with counted("reading weights", len(weights)) as tick:
        for name, tensor in weights.items():
            if tensor.shape != wanted[name].shape:
                raise CheckpointError(
                    f"{where}: {name} has the shape {tuple(tensor.shape)}, {CONFIG_FILE} implies {tuple(wanted[name].shape)}"
                )
            if not torch.isfinite(tensor).all():
                raise CheckpointError(f"{where}: {name} holds NaN or infinity: the training diverged")
            found[name] = tensor.to(torch.float32)
            tick()
    module.load_state_dict(found, assign=True)
    module.requires_grad_(requires_grad=False)


def _refuse_names(where: Path, what: str, names: Iterable[str]) -> None:
    listed = sorted(names)
    if listed:
        more = f" and {len(listed) - 1} more" if len(listed) > 1 else ""
        raise CheckpointError(f"{where}: {what} {listed[0]}{more}: not the weights that {CONFIG_FILE} describes")


def _refuse_unknown_features(path: Path, settings: Settings) -> None:
    if settings.n_obs_steps != 1:
        raise CheckpointError(f"{path}: n_obs_steps is {settings.n_obs_steps}; only policies that see one moment can be served")
    if settings.use_peft:
        raise CheckpointError(f"{path}: use_peft is set: merge the adapter into the weights and save the whole policy")
    if settings.n_action_steps > settings.chunk_size:
        raise CheckpointError(f"{path}: n_action_steps is above chunk_size")
    if set(settings.output_features) != {ACTION} or len(settings.output_features[ACTION].shape) != 1:
        raise CheckpointError(f"{path}: output_features must be one vector, {ACTION!r}")
    for key, one in settings.input_features.items():
        is_picture = one.type is FeatureType.VISUAL
        if is_picture and max(one.shape, default=0) > _MOST_PIXELS:
            raise CheckpointError(f"{path}: input_features: {key}: no camera has {max(one.shape)} pixels a side; fetch it again")
        if one.type is FeatureType.ACTION or len(one.shape) != (3 if is_picture else 1) or (is_picture and one.shape[0] != 3):
            raise CheckpointError(f"{path}: input_features: {key}: {one.type} of shape {one.shape} is not supported")
        if one.type is FeatureType.STATE and key != STATE:
            raise CheckpointError(
                f"{path}: input_features: {key}: LeRobot's network ignores a state of another name than {STATE}"
            )
    if len([one for one in settings.input_features.values() if one.type is FeatureType.ENV]) > 1:
        raise CheckpointError(f"{path}: input_features: only one ENV input is supported")
    if not settings.pictures:
        raise CheckpointError(f"{path}: input_features hold no picture; a policy is served through its cameras")
