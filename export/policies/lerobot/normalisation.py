"""How LeRobot scaled what goes in and comes out: one module for each feature, from either generation of checkpoints.

Until 0.3 the statistics are buffers inside `model.safetensors` (`normalize_inputs.buffer_observation_state.mean`); from 0.4 they
are the state of a step of `policy_preprocessor.json` and `policy_postprocessor.json`. LeRobot passes numbers without statistics
through as they are; here a missing statistic is a CheckpointError, because such a policy moves wrongly without a word.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from export.contract.statistics import Bounds, MeanStd, Statistics
from export.policies.adapter import CheckpointError
from export.policies.lerobot.layout import (
    ACTION,
    STATE,
    WEIGHTS_FILE,
    Feature,
    FeatureType,
    S,
    Settings,
    Weights,
    read_json,
    read_tensors,
)

PREPROCESSOR_FILE, POSTPROCESSOR_FILE = "policy_preprocessor.json", "policy_postprocessor.json"
INPUTS = ("normalize_inputs.buffer_",)
# Both hold the same numbers; where they share memory, safetensors keeps only one of the names.
OUTPUTS = ("unnormalize_outputs.buffer_", "normalize_targets.buffer_")
OLD_PREFIXES = ("normalize_inputs.", "unnormalize_outputs.", "normalize_targets.", "unnormalize_targets.")
EPSILON = 1e-8
# What may stand in a pipeline beside scaling: they move, batch, rename and tokenise, which the wire contract does here.
_KNOWN_STEPS = {
    PREPROCESSOR_FILE: {
        "rename_observations_processor",
        "to_batch_processor",
        "device_processor",
        "normalizer_processor",
        "tokenizer_processor",
        "smolvla_new_line_processor",
    },
    POSTPROCESSOR_FILE: {"unnormalizer_processor", "device_processor"},
}


class Mode(StrEnum):
    """LeRobot's names for the ways of scaling."""

    IDENTITY = "IDENTITY"
    MEAN_STD = "MEAN_STD"
    MIN_MAX = "MIN_MAX"
    QUANTILES = "QUANTILES"
    QUANTILE10 = "QUANTILE10"


_NEEDS = {
    Mode.IDENTITY: (),
    Mode.MEAN_STD: ("mean", "std"),
    Mode.MIN_MAX: ("min", "max"),
    Mode.QUANTILES: ("q01", "q99"),
    Mode.QUANTILE10: ("q10", "q90"),
}


class Scaling(nn.Module):
    """Scales one feature. `first` and `second` are mean and deviation, or the ends of the range that becomes [−1, 1].

    The formulas are LeRobot's, operation by operation: a constant column makes the denominator so small that an equal formula in
    another order would give another number.
    """

    first: Tensor
    second: Tensor

    def __init__(self, mode: Mode, values: tuple[Tensor, ...], epsilon: float) -> None:
        super().__init__()
        self.mode, self.epsilon = mode, epsilon
        for name, value in zip(("first", "second"), values, strict=False):
            self.register_buffer(name, value, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Physical units become what the network was trained on."""
        if self.mode is Mode.IDENTITY:
            return values
        if self.mode is Mode.MEAN_STD:
            return (values - self.first) / (self.second + self.epsilon)
        return 2 * (values - self.first) / self._range() - 1

    def inverse(self, values: Tensor) -> Tensor:
        """The network's numbers become physical units."""
        if self.mode is Mode.IDENTITY:
            return values
        if self.mode is Mode.MEAN_STD:
            return values * self.second + self.first
        return (values + 1) / 2 * self._range() + self.first

    def statistics(self) -> Statistics | None:
        """The same facts for the manifest; None where it has no words for them."""
        match self.mode:
            case Mode.MEAN_STD:
                mean, std = tuple(self.first.tolist()), tuple(self.second.tolist())
                return MeanStd(scheme="mean_std", mean=mean, std=std, epsilon=self.epsilon)
            case Mode.MIN_MAX | Mode.QUANTILES:
                low, high = tuple(self.first.tolist()), tuple(self.second.tolist())
                scheme: Literal["bounds", "bounds_q99"] = "bounds" if self.mode is Mode.MIN_MAX else "bounds_q99"
                return Bounds(scheme=scheme, low=low, high=high, mask=(True,) * len(low), epsilon=0.0)
            case Mode.IDENTITY | Mode.QUANTILE10:
                return None

    def _range(self) -> Tensor:
        width = self.second - self.first
        return torch.where(width == 0, torch.full_like(width, self.epsilon), width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """One Scaling per input, one for the action, and what the robot's own names for the cameras are."""

    inputs: dict[str, Scaling]
    action: Scaling
    renamed: dict[str, str]  # by the network's key


def read_normalisation(folder: Path, settings: Settings, weights: Weights) -> Normalisation:
    """Of either generation. Raises CheckpointError where a statistic is missing, broken or of an unknown kind."""
    if (folder / PREPROCESSOR_FILE).exists():
        return _from_pipelines(folder, settings)
    if not any(name.startswith(OLD_PREFIXES) for name in weights):
        raise CheckpointError(
            f"{folder}: no statistics: neither {PREPROCESSOR_FILE} nor buffers in {WEIGHTS_FILE}; fetch all files"
        )
    modes = _modes(settings.normalization_mapping)
    where = folder / WEIGHTS_FILE
    inputs = {
        key: _scaling(where, key, one, _Step(modes=modes, values=_buffers(weights, INPUTS, key), epsilon=EPSILON))
        for key, one in settings.inputs.items()
    }
    step = _Step(modes=modes, values=_buffers(weights, OUTPUTS, ACTION), epsilon=EPSILON)
    return Normalisation(inputs=inputs, action=_scaling(where, ACTION, settings.output_features[ACTION], step), renamed={})


def with_true_state(folder: Path, settings: S, weights: Weights) -> S:
    """The settings with the state as long as its statistics.

    For networks that take a state of any length: fine-tuning keeps the features of the policy that it started from in
    `config.json`, but the statistics are the robot's.
    """
    has_pipeline = (folder / PREPROCESSOR_FILE).exists()
    values = _read_step(folder, PREPROCESSOR_FILE, "normalizer_processor")[1].values if has_pipeline else {}
    values = values or _buffers(weights, INPUTS, STATE)
    found = [values[name].numel() for name in (f"{STATE}.mean", f"{STATE}.min", f"{STATE}.q01") if name in values]
    if not found or STATE not in settings.input_features:
        return settings
    state = Feature(type=FeatureType.STATE, shape=(found[0],))
    return settings.model_copy(update={"input_features": settings.input_features | {STATE: state}})


def network_weights(weights: Weights) -> Weights:
    """Without the statistics of the older generation."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(OLD_PREFIXES)}


def pipeline_steps(folder: Path, file: str) -> dict[str, dict[str, Any]]:
    """The steps of a saved pipeline by name. Raises CheckpointError at a step that changes numbers in a way unknown here."""
    steps = read_json(folder / file).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CheckpointError(f"{folder / file}: holds no steps")
    found = {str(step.get("registry_name") or step.get("class")): step for step in steps}
    unknown = sorted(found.keys() - _KNOWN_STEPS[file])
    if unknown:
        raise CheckpointError(f"{folder / file}: step {unknown[0]!r} is not known here; its effect on the numbers would be lost")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What a (un)normaliser holds: modes by feature type, statistics by `key.statistic`."""

    modes: dict[FeatureType, str]
    values: Weights
    epsilon: float


def _from_pipelines(folder: Path, settings: Settings) -> Normalisation:
    steps = pipeline_steps(folder, PREPROCESSOR_FILE)
    where, step = _read_step(folder, PREPROCESSOR_FILE, "normalizer_processor")
    inputs = {key: _scaling(where, key, one, step) for key, one in settings.inputs.items()}
    where, step = _read_step(folder, POSTPROCESSOR_FILE, "unnormalizer_processor")
    names: dict[str, str] = steps.get("rename_observations_processor", {}).get("config", {}).get("rename_map", {})
    renamed = {network: robot for robot, network in names.items()}
    return Normalisation(inputs=inputs, action=_scaling(where, ACTION, settings.output_features[ACTION], step), renamed=renamed)


def _read_step(folder: Path, file: str, name: str) -> tuple[Path, _Step]:
    step = pipeline_steps(folder, file).get(name)
    if step is None:
        raise CheckpointError(f"{folder / file}: has no step {name!r}, so nothing says how to scale")
    config, state = step.get("config", {}), step.get("state_file")
    if config.get("normalize_observation_keys") is not None:
        raise CheckpointError(f"{folder / file}: normalize_observation_keys is not supported")
    if state is None:
        raise CheckpointError(f"{folder / file}: {name!r} was saved without statistics: train or fine-tune the policy first")
    if Path(state).name != state:
        raise CheckpointError(f"{folder / file}: state_file {state!r} is not a file of this folder")
    modes = _modes(config.get("norm_map", {}))
    return folder / state, _Step(modes=modes, values=read_tensors(folder / state), epsilon=float(config.get("eps", EPSILON)))


def _modes(named: dict[str, str]) -> dict[FeatureType, str]:
    """Of the features a policy has; rewards and words are scaled by nobody."""
    return {FeatureType(kind): mode for kind, mode in named.items() if kind in set(FeatureType)}


def _buffers(weights: Weights, prefixes: tuple[str, ...], key: str) -> Weights:
    starts = [f"{prefix}{key.replace('.', '_')}." for prefix in prefixes]
    return {
        f"{key}.{name.removeprefix(start)}": value
        for start in starts
        for name, value in weights.items()
        if name.startswith(start)
    }


def _scaling(where: Path, key: str, feature: Feature, step: _Step) -> Scaling:
    mode = step.modes.get(feature.type, Mode.IDENTITY)
    if mode not in set(Mode):
        raise CheckpointError(f"{where.parent}: {feature.type} is scaled by {mode!r}, which is not known here")
    names = _NEEDS[Mode(mode)]
    values = tuple(_statistic(where, f"{key}.{name}", step.values, feature) for name in names)
    if values and bool((values[1] < (0.0 if Mode(mode) is Mode.MEAN_STD else values[0])).any()):
        raise CheckpointError(
            f"{where}: {key}.{names[1]} is below {'zero' if mode == Mode.MEAN_STD else names[0]}: not statistics"
        )
    return Scaling(Mode(mode), values, step.epsilon)


def _statistic(where: Path, name: str, values: Weights, feature: Feature) -> Tensor:
    if name not in values:
        raise CheckpointError(f"{where}: lacks {name}: train or fine-tune the policy first, or save it with its statistics")
    found = values[name].to(torch.float32)
    size = feature.shape[0]
    if found.numel() not in {1, size} or found.ndim > len(feature.shape):
        raise CheckpointError(f"{where}: {name} has the shape {tuple(found.shape)}, the feature {feature.shape}")
    if not torch.isfinite(found).all():
        raise CheckpointError(f"{where}: {name} holds NaN or infinity: it was never filled from a dataset")
    flat = found.flatten().expand(size).clone()
    return flat[:, None, None] if feature.type is FeatureType.VISUAL else flat
