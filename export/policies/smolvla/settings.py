"""What a SmolVLA checkpoint and the SmolVLM2 under it say about the network, and the layout that follows.

LeRobot's checkpoint does not hold the vision-language model's own configuration and tokenizer, it names them: they must lie in
the folder `vlm` beside it. Settings that LeRobot itself cannot run, or that change numbers in ways unknown here, are refused.
"""

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from export.policies.adapter import CheckpointError
from export.policies.lerobot.layout import CONFIG_FILE, FeatureType, Settings, Size, Weights, read_json
from export.policies.smolvla.decoder import DecoderShape
from export.policies.smolvla.network import Layout, Reading
from export.policies.smolvla.vision import VisionShape

VLM_FOLDER, TOKENIZER_FILE = "vlm", "tokenizer.json"
MARKS = ("<fake_token_around_image>", "<global-img>")
_VLM = "vlm_with_expert.vlm.model."
_EXPERT = "vlm_with_expert.lm_expert."


class SmolVlaSettings(Settings):
    """What LeRobot's `config.json` says about the network."""

    max_state_dim: Size
    max_action_dim: Size
    resize_imgs_with_padding: tuple[Size, Size] | None
    adapt_to_pi_aloha: bool = False
    use_delta_joint_actions_aloha: bool = False
    tokenizer_max_length: Size
    num_steps: Size
    vlm_model_name: str
    add_image_special_tokens: bool = False
    attention_mode: str = "cross_attn"
    num_expert_layers: int = -1
    num_vlm_layers: int = 16
    self_attn_every_n_layers: int = 2
    min_period: float
    max_period: float

    @property
    def side(self) -> int:
        """Of the square that every picture becomes; `refuse` has seen to it that there is one."""
        return (self.resize_imgs_with_padding or (0, 0))[0]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Vision(_Part):
    """Defaults are those of transformers' SmolVLMVisionConfig, which published files leave out."""

    num_attention_heads: Size = 16
    image_size: Size = 224
    patch_size: Size = 32
    layer_norm_eps: float = 1e-6
    hidden_act: str = "gelu_pytorch_tanh"


class _Text(_Part):
    """Defaults are those of transformers' LlamaConfig."""

    hidden_size: Size
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    rms_norm_eps: float = 1e-6
    hidden_act: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False


class VlmSettings(_Part):
    """What the `config.json` of the SmolVLM2 says."""

    scale_factor: Size = 2
    vision_config: _Vision = Field(default_factory=_Vision)
    text_config: _Text


def vlm_folder(folder: Path, settings: SmolVlaSettings) -> Path:
    """Where the model's configuration and tokenizer lie: `vlm` in the checkpoint, or the folder that it names."""
    for found in (folder / VLM_FOLDER, Path(settings.vlm_model_name)):
        if (found / CONFIG_FILE).is_file() and (found / TOKENIZER_FILE).is_file():
            return found
    raise CheckpointError(
        f"{folder / VLM_FOLDER}: put {CONFIG_FILE} and {TOKENIZER_FILE} of {settings.vlm_model_name!r} there;"
        " LeRobot does not save them"
    )


def read_vlm(folder: Path) -> VlmSettings:
    """Raises CheckpointError where the model is none that this network has."""
    path = folder / CONFIG_FILE
    try:
        found = VlmSettings.model_validate(read_json(path))
    except ValidationError as error:
        fault = error.errors()[0]
        raise CheckpointError(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}: not a SmolVLM2") from None
    if found.vision_config.hidden_act != "gelu_pytorch_tanh" or found.text_config.hidden_act != "silu":
        raise CheckpointError(f"{path}: hidden_act is not SmolVLM2's: not a SmolVLM2")
    if found.vision_config.image_size % (found.vision_config.patch_size * found.scale_factor):
        raise CheckpointError(f"{path}: image_size is no multiple of patch_size × scale_factor")
    return found


def refuse(path: Path, settings: SmolVlaSettings) -> None:
    """What LeRobot can say and this exporter cannot do."""
    sides, state = settings.resize_imgs_with_padding, settings.vector(FeatureType.STATE)
    faults = {
        "adapt_to_pi_aloha is set: its turned joints and grippers are not supported": settings.adapt_to_pi_aloha,
        "use_delta_joint_actions_aloha is set: LeRobot itself cannot run it": settings.use_delta_joint_actions_aloha,
        "resize_imgs_with_padding must make squares": sides is None or sides[0] != sides[1],
        "the policy is larger than max_state_dim or max_action_dim": settings.action_size > settings.max_action_dim
        or (state is not None and state[1] > settings.max_state_dim),
        "input_features lack observation.state": state is None,
        "an ENV input is not supported": settings.vector(FeatureType.ENV) is not None,
        f"attention_mode {settings.attention_mode!r} is not known": settings.attention_mode not in {"cross_attn", "self_attn"},
    }
    for fault, is_there in faults.items():
        if is_there:
            raise CheckpointError(f"{path}: {fault}")


def layout_of(settings: SmolVlaSettings, vlm: VlmSettings, weights: Weights, marks: tuple[int, int] | None) -> Layout:
    """Heads from the configurations, widths and depths from the weights. Raises KeyError naming a weight that is not there."""
    text, sees = vlm.text_config, vlm.vision_config
    head = text.head_dim or text.hidden_size // text.num_attention_heads
    key_heads = text.num_key_value_heads or text.num_attention_heads
    inner = weights[f"{_VLM}text_model.layers.0.mlp.gate_proj.weight"].shape[0]
    language = DecoderShape(
        width=text.hidden_size,
        inner=inner,
        heads=text.num_attention_heads,
        key_heads=key_heads,
        head=head,
        epsilon=text.rms_norm_eps,
        has_attention_bias=text.attention_bias,
        has_inner_bias=text.mlp_bias,
    )
    gate = weights[f"{_EXPERT}layers.0.mlp.gate_proj.weight"]
    return Layout(
        vision=VisionShape(
            width=weights[f"{_VLM}vision_model.post_layernorm.weight"].shape[0],
            inner=weights[f"{_VLM}vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
            layers=_count(weights, f"{_VLM}vision_model.encoder.layers."),
            heads=sees.num_attention_heads,
            patch=sees.patch_size,
            trained=sees.image_size,
            epsilon=sees.layer_norm_eps,
            fold=vlm.scale_factor,
            size=(settings.side, settings.side),
        ),
        language=language,
        expert=replace(language, width=gate.shape[1], inner=gate.shape[0]),
        readings=_readings(settings, _count(weights, f"{_VLM}text_model.layers."), _count(weights, f"{_EXPERT}layers.")),
        vocabulary=weights[f"{_VLM}text_model.embed_tokens.weight"].shape[0],
        state_size=settings.max_state_dim,
        action_size=settings.max_action_dim,
        chunk=settings.chunk_size,
        steps=settings.num_steps,
        periods=(settings.min_period, settings.max_period),
        picture_marks=marks,
        absent_pictures=settings.empty_cameras,
    )


def _readings(settings: SmolVlaSettings, layers: int, experts: int) -> tuple[Reading, ...]:
    """Which expert layer goes with which language layer, and how it reads. Where LeRobot's two rules differ, it cannot run."""
    every = layers // max(experts, 1)
    found = []
    for index in range(layers):
        expert = index // every if every and index % every == 0 else None
        is_joint = _is_joint(settings, index)
        is_built_joint = expert is not None and _is_joint(settings, expert)
        if expert is not None and expert >= experts:
            raise CheckpointError(f"{layers} language layers and {experts} expert layers do not go together")
        if (expert is None and is_joint) or (expert is not None and is_joint != is_built_joint):
            every_joint = f"self_attn_every_n_layers {settings.self_attn_every_n_layers}"
            raise CheckpointError(f"{every_joint} does not go with {experts} expert layers for {layers} language layers")
        found.append(Reading(expert=expert, is_joint=is_joint))
    return tuple(found)


def _is_joint(settings: SmolVlaSettings, index: int) -> bool:
    every = settings.self_attn_every_n_layers
    return "cross" not in settings.attention_mode or (every > 0 and index % every == 0)


def _count(weights: Weights, prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})
