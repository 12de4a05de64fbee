"""What a published OpenVLA checkpoint says about itself: `config.json` and `preprocessor_config.json` as frozen facts.

Keys that the published files leave out get the defaults of the original configuration classes. It reads no weights, no statistics
and no tokenizer. Called by the loaders of `openvla` and `openvla_oft`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.policies.adapter import CheckpointError
from export.policies.openvla.said import LAYERS, PIXELS, VOCABULARY, WIDTH, Said, is_number, read_json, shown
from export.policies.openvla.tower_config import Tower, known_tower, sized_tower

CONFIG_FILE, PREPROCESSOR_FILE = "config.json", "preprocessor_config.json"
_STD_RANGE = (1e-6, 1e6)  # of pixels from 0 to 1; outside, the network would see infinities
# Prismatic's names for backbones: the resolution and the towers that a config may leave out.
_DINO, _SIGLIP, _CLIP = "vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_", "vit_large_patch14_clip_"
_BACKBONES: dict[str, tuple[int, tuple[str, ...]]] = {
    "clip-vit-b": (224, ("vit_base_patch16_clip_224.openai",)),
    "clip-vit-l": (224, (f"{_CLIP}224.openai",)),
    "clip-vit-l-336px": (336, (f"{_CLIP}336.openai",)),
    "siglip-vit-b16-224px": (224, ("vit_base_patch16_siglip_224",)),
    "siglip-vit-b16-256px": (256, ("vit_base_patch16_siglip_256",)),
    "siglip-vit-b16-384px": (384, ("vit_base_patch16_siglip_384",)),
    "siglip-vit-so400m": (224, (f"{_SIGLIP}224",)),
    "siglip-vit-so400m-384px": (384, (f"{_SIGLIP}384",)),
    "dinov2-vit-l": (224, (_DINO,)),
    "in1k-vit-l": (224, ("vit_large_patch16_224.augreg_in21k_ft_in1k",)),
    "dinoclip-vit-l-336px": (336, (_DINO, f"{_CLIP}336.openai")),
    "dinosiglip-vit-so-224px": (224, (_DINO, f"{_SIGLIP}224")),
    "dinosiglip-vit-so-384px": (384, (_DINO, f"{_SIGLIP}384")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The language model's dimensions; the defaults are those of `LlamaConfig` (Llama-2-7B)."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """How a camera image becomes the network's pixels: resize rule, and mean and deviation per tower and channel."""

    resize: str  # "resize-naive" or "letterbox"
    letterbox_fill: tuple[int, int, int] | None
    means: tuple[tuple[float, float, float], ...]
    stds: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVlaConfig:
    """Everything that decides the network's shape and how pixels enter it."""

    towers: tuple[Tower, ...]
    text: Text
    pictures: Pictures
    n_action_bins: int
    pad_to_multiple_of: int
    pad_token_id: int

    @property
    def is_fused(self) -> bool:
        """Two towers, their features side by side."""
        return len(self.towers) == 2

    @property
    def image_size(self) -> int:
        """Pixels of one side; both towers see the same picture."""
        return self.towers[0].image_size

    @property
    def patches(self) -> int:
        """Patch embeddings of one picture."""
        return self.towers[0].patches

    @property
    def vision_dim(self) -> int:
        """Width of the towers' features side by side."""
        return sum(tower.embed_dim for tower in self.towers)

    @property
    def action_vocab(self) -> int:
        """The first id that is no action token: the tokenizer's vocabulary without the padding to a multiple of 64."""
        return self.text.vocab_size - self.pad_to_multiple_of


def read_config(folder: Path) -> OpenVlaConfig:
    """The facts of the checkpoint in `folder`. Raises CheckpointError with one line that says what to do."""
    config = Said(values=read_json(folder / CONFIG_FILE), place=f"{folder / CONFIG_FILE}: ")
    path = folder / PREPROCESSOR_FILE
    preprocessor = Said(values=read_json(path) if path.exists() else {}, place=f"{path}: ")
    towers = _towers(config)
    return OpenVlaConfig(
        towers=towers,
        text=_text(config.part("text_config")),
        pictures=_pictures(config, preprocessor, towers),
        n_action_bins=config.whole("n_action_bins", 256, least=2, most=VOCABULARY),
        pad_to_multiple_of=config.whole("pad_to_multiple_of", 64, most=VOCABULARY),
        pad_token_id=config.whole("pad_token_id", 32000, most=VOCABULARY),
    )


def _text(said: Said) -> Text:
    text = said.values
    model_type = text.get("model_type", "llama")
    if model_type != "llama":
        raise CheckpointError(f"{said.place}model_type: language model {shown(model_type)} is not supported, only llama is")
    for key, wanted in (("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False), ("tie_word_embeddings", False)):
        if text.get(key, wanted) != wanted:
            raise CheckpointError(f"{said.place}{key} is {shown(text[key])}, only {wanted!r} is supported")
    rope = said.part("rope_parameters")
    if text.get("rope_scaling") or rope.values.get("rope_type", "default") != "default":
        raise CheckpointError(f"{said.place}rope_scaling is set; scaled positions are not supported")
    heads = said.whole("num_attention_heads", 32, most=WIDTH)
    found = Text(
        vocab_size=said.whole("vocab_size", 32000, most=VOCABULARY),
        hidden_size=said.whole("hidden_size", 4096, most=WIDTH),
        intermediate_size=said.whole("intermediate_size", 11008, most=WIDTH),
        num_hidden_layers=said.whole("num_hidden_layers", 32, most=LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=said.whole("num_key_value_heads", heads, most=WIDTH),
        rms_norm_eps=said.above_zero("rms_norm_eps", 1e-6),
        rope_theta=said.above_zero("rope_theta", rope.above_zero("rope_theta", 10000.0)),
    )
    _refuse_uneven(said, found)
    return found


def _refuse_uneven(said: Said, text: Text) -> None:
    heads, groups = text.num_attention_heads, text.num_key_value_heads
    if text.hidden_size % heads or heads % groups or said.values.get("head_dim") not in (None, text.head_dim):
        raise CheckpointError(f"{said.place}hidden_size, num_attention_heads and num_key_value_heads do not divide")
    if text.head_dim % 2:
        raise CheckpointError(f"{said.place}hidden_size / num_attention_heads is {text.head_dim}, rotary positions need it even")


def _towers(said: Said) -> tuple[Tower, ...]:
    backbone = said.values.get("vision_backbone_id")
    size, known_ids = _BACKBONES.get(str(backbone), (None, ()))
    ids = said.listed("timm_model_ids", str, "names") or list(known_ids)
    sizes = _sizes(said, len(ids)) or ([] if size is None else [size] * len(ids))
    if not ids or not sizes:
        known = ", ".join(_BACKBONES)
        raise CheckpointError(
            f"{said.place}unknown vision backbone {shown(backbone)}; known are {known}, or give timm_model_ids and image_sizes"
        )
    is_fused = said.flag("use_fused_vision_backbone")
    wanted = 2 if (len(ids) == 2 if is_fused is None else is_fused) else 1
    if len(ids) < wanted or len(sizes) < wanted:
        raise CheckpointError(f"{said.place}{wanted} vision towers are wanted, timm_model_ids and image_sizes name fewer")
    if len(set(sizes[:wanted])) > 1:
        raise CheckpointError(f"{said.place}image_sizes are {sizes}; both towers must see the same picture")
    activations = said.listed("timm_override_act_layers", (str, type(None)), "names or null") or [None] * len(ids)
    dimensions = said.listed("vision_towers", dict, "objects") or [None] * len(ids)
    if len(activations) < wanted or len(dimensions) < wanted:
        raise CheckpointError(f"{said.place}timm_override_act_layers or vision_towers name fewer than {wanted} towers")
    towers = tuple(_tower(ids[i], sizes[i], activations[i], dimensions[i], where=said.place) for i in range(wanted))
    if len({tower.patches for tower in towers}) > 1:
        raise CheckpointError(f"{said.place}the towers cut {[tower.patches for tower in towers]} patches; they must agree")
    return towers


def _sizes(said: Said, count: int) -> list[int] | None:
    """`image_sizes`: one number for all towers or one each; None where it is absent or null."""
    found = said.values.get("image_sizes")
    sizes = [found] * count if isinstance(found, int) else said.listed("image_sizes", int, f"whole numbers from 1 to {PIXELS:,}")
    if sizes is not None and not all(not isinstance(size, bool) and 1 <= size <= PIXELS for size in sizes):
        raise said.refusal("image_sizes", f"a list of whole numbers from 1 to {PIXELS:,}")
    return sizes


def _tower(timm_id: str, image_size: int, activation: str | None, dimensions: dict[str, Any] | None, *, where: str) -> Tower:
    if activation not in (None, "gelu", "quick_gelu"):
        raise CheckpointError(f"{where}vision activation {shown(activation)} is not supported; gelu and quick_gelu are")
    if dimensions is None:
        tower = known_tower(timm_id, image_size=image_size, activation=activation)
    else:
        said = Said(values=dimensions, place=f"{where}vision_towers.")
        tower = sized_tower(timm_id, image_size=image_size, activation=activation, said=said)
    if tower is None:
        raise CheckpointError(
            f"{where}unknown vision backbone {shown(timm_id)}; DINOv2, SigLIP, CLIP and augreg ViTs of timm are known"
        )
    if tower.embed_dim % tower.num_heads or tower.depth < 2 or tower.patches < 1 or tower.mlp_dim < 1:
        raise CheckpointError(f"{where}vision tower {shown(timm_id)} has impossible dimensions: {tower}")
    return tower


def _pictures(config: Said, preprocessor: Said, towers: Sequence[Tower]) -> Pictures:
    """The stored `tvf_…` values win, as in the original processor, where they overwrite what its constructor derived."""
    stored = preprocessor.listed("tvf_normalize_params", dict, "objects with mean and std")
    if stored is None:
        means, stds = (preprocessor.listed(key, list, "means or deviations, one triple a tower") for key in ("means", "stds"))
    else:
        means, stds = [one.get("mean") for one in stored], [one.get("std") for one in stored]
    means = means or [list(tower.mean) for tower in towers]
    stds = stds or [list(tower.std) for tower in towers]
    if len(means) < len(towers) or len(stds) < len(towers):
        raise CheckpointError(f"{preprocessor.place}normalises {len(means)} pictures, the checkpoint has {len(towers)} towers")
    rule = _resize_rule(config, preprocessor)
    triples = tuple(_mean(preprocessor, mean) for mean in means)
    return Pictures(
        resize=rule,
        letterbox_fill=_fill(preprocessor, triples[-1]) if rule == "letterbox" else None,
        means=triples[: len(towers)],
        stds=tuple(_std(preprocessor, std) for std in stds[: len(towers)]),
    )


def _resize_rule(config: Said, preprocessor: Said) -> str:
    rule = preprocessor.values.get("image_resize_strategy") or config.values.get("image_resize_strategy") or "letterbox"
    rule = "letterbox" if preprocessor.flag("tvf_do_letterbox") else rule
    if rule not in ("resize-naive", "letterbox"):
        raise CheckpointError(
            f"{config.place}image_resize_strategy {shown(rule)} is not supported; resize-naive and letterbox are"
        )
    return str(rule)


def _mean(said: Said, values: object) -> tuple[float, float, float]:
    first, second, third = _triple(said, values)
    return (first, second, third)


def _std(said: Said, values: object) -> tuple[float, float, float]:
    first, second, third = _triple(said, values)
    if not all(_STD_RANGE[0] <= one <= _STD_RANGE[1] for one in (first, second, third)):
        raise CheckpointError(f"{said.place}the deviation {shown(values)} must be above 0: pixels are divided by it")
    return (first, second, third)


def _fill(said: Said, mean: tuple[float, float, float]) -> tuple[int, int, int]:
    """The colour of the letterbox' border, else the mean as the original derives it."""
    values = said.values.get("tvf_letterbox_fill")
    values = [int(one * 255) for one in mean] if values is None else values
    first, second, third = _triple(said, values)
    if not all(isinstance(one, int) and 0 <= one <= 255 for one in (first, second, third)):
        raise CheckpointError(f"{said.place}the letterbox' fill {shown(values)} must be three whole numbers from 0 to 255")
    return (int(first), int(second), int(third))


def _triple(said: Said, values: object) -> list[Any]:
    if not isinstance(values, list) or not all(is_number(one) for one in values):
        raise CheckpointError(f"{said.place}a mean, deviation or fill is {shown(values)}, it must be three finite numbers")
    if len(values) != 3:
        raise CheckpointError(f"{said.place}a mean, deviation or fill has {len(values)} channels instead of 3")
    return values
