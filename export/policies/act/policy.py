"""Opens an ACT checkpoint as LeRobot saves it, of either generation, for `publish`.

It turns `config.json` into the network's layout and refuses what the network cannot do. ACT takes no words: the API's instruction
is not used, and the manifest says so by having none.
"""

from pathlib import Path

import torch
from pydantic import Field

from export.policies.act.network import ACTIVATIONS, Act, Layout, Scalings, Transformer
from export.policies.act.resnet import BACKBONES, Shape, shape_of
from export.policies.adapter import CheckpointError, CheckpointOptions, Policy
from export.policies.lerobot.facts import Facts, gather
from export.policies.lerobot.layout import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    FeatureType,
    Settings,
    Size,
    Weights,
    load,
    read_settings,
    read_tensors,
)
from export.policies.lerobot.normalisation import Normalisation, network_weights, read_normalisation
from export.policies.lerobot.policy import LeRobotPolicy

FAMILY = "act"
_MODEL, _BACKBONE = "model.", "backbone."
_TRAINING_ONLY = "vae_encoder"  # the network learns with it; what it would say is zero in use


class ActSettings(Settings):
    """What `config.json` says about the network."""

    vision_backbone: str
    replace_final_stride_with_dilation: bool = False
    pre_norm: bool
    dim_model: Size
    n_heads: Size
    dim_feedforward: Size
    feedforward_activation: str
    n_encoder_layers: Size
    n_decoder_layers: Size
    latent_dim: Size
    temporal_ensemble_coeff: float | None = Field(default=None)


def open_checkpoint(options: CheckpointOptions) -> Policy:
    """Reads everything once. Raises CheckpointError."""
    folder = options.checkpoint
    settings = read_settings(folder, FAMILY, ActSettings)
    _refuse(folder / CONFIG_FILE, settings)
    stored = read_tensors(folder / WEIGHTS_FILE)
    scalings = read_normalisation(folder, settings, stored)
    facts = gather(options, settings, scalings, are_cameras_known=True)
    weights = {
        name.removeprefix(_MODEL): tensor
        for name, tensor in network_weights(stored).items()
        if not name.startswith(_MODEL + _TRAINING_ONLY)
    }
    with torch.device("meta"):
        transformer = Transformer(_layout(settings, _backbone(folder / WEIGHTS_FILE, settings, weights)))
    load(transformer, weights, folder / WEIGHTS_FILE)
    network = Act(transformer, _scalings(facts, settings, scalings)).eval()
    return LeRobotPolicy(facts=facts, network=network, description=_description(settings))


def _refuse(path: Path, settings: ActSettings) -> None:
    if settings.vision_backbone not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise CheckpointError(f"{path}: vision_backbone {settings.vision_backbone!r} is not known here; known are {known}")
    if settings.feedforward_activation not in ACTIVATIONS:
        raise CheckpointError(f"{path}: feedforward_activation {settings.feedforward_activation!r} is not supported")
    if settings.dim_model % (2 * settings.n_heads):
        raise CheckpointError(f"{path}: dim_model {settings.dim_model} is no multiple of twice n_heads, {settings.n_heads}")
    if settings.replace_final_stride_with_dilation and settings.vision_backbone in {"resnet18", "resnet34"}:
        raise CheckpointError(f"{path}: {settings.vision_backbone} cannot be dilated, so LeRobot never made this checkpoint")


def _backbone(path: Path, settings: ActSettings, weights: Weights) -> Shape:
    inner = {name.removeprefix(_BACKBONE): tensor for name, tensor in weights.items() if name.startswith(_BACKBONE)}
    try:
        return shape_of(settings.vision_backbone, inner, is_dilated=settings.replace_final_stride_with_dilation)
    except KeyError as missing:
        raise CheckpointError(f"{path}: lacks {_BACKBONE}{missing.args[0]}: no {settings.vision_backbone} is in it") from None


def _layout(settings: ActSettings, backbone: Shape) -> Layout:
    sizes = {kind: found[1] if (found := settings.vector(kind)) else None for kind in (FeatureType.STATE, FeatureType.ENV)}
    return Layout(
        backbone=backbone,
        pictures=tuple((one.shape[1], one.shape[2]) for one in settings.pictures.values()),
        state_size=sizes[FeatureType.STATE],
        environment_size=sizes[FeatureType.ENV],
        action_size=settings.action_size,
        chunk=settings.chunk_size,
        width=settings.dim_model,
        heads=settings.n_heads,
        inner=settings.dim_feedforward,
        encoder_layers=settings.n_encoder_layers,
        decoder_layers=settings.n_decoder_layers,
        latent=settings.latent_dim,
        activation=settings.feedforward_activation,
        is_pre_norm=settings.pre_norm,
    )


def _scalings(facts: Facts, settings: ActSettings, scalings: Normalisation) -> Scalings:
    state, environment = settings.vector(FeatureType.STATE), settings.vector(FeatureType.ENV)
    return Scalings(
        cameras={camera.tensor: scalings.inputs[key] for key, camera in facts.cameras_by_key().items()},
        state=scalings.inputs[state[0]] if state else None,
        environment=scalings.inputs[environment[0]] if environment else None,
        state_size=state[1] if state else 0,
        action=scalings.action,
    )


def _description(settings: ActSettings) -> str:
    text = (
        f"LeRobot ACT: {settings.vision_backbone}, {len(settings.pictures)} camera(s), chunks of {settings.chunk_size} actions,"
        f" of which {settings.n_action_steps} were meant to be executed before the next request."
        " It takes no words: the instruction is not used."
    )
    if settings.temporal_ensemble_coeff is not None:
        text += (
            f" Its authors averaged overlapping chunks with the coefficient {settings.temporal_ensemble_coeff:g};"
            " that is the client's part."
        )
    return text
