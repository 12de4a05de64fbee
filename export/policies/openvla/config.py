"""What a published OpenVLA checkpoint says about itself: `config.json` and `preprocessor_config.json` as frozen facts.

Keys that the published files leave out get the defaults of the original configuration classes. It reads no weights, no statistics
and no tokenizer. Called by the loaders of `openvla` and `openvla_oft`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.policies.adapter import CheckpointError
from export.policies.openvla.tower_config import Tower, known_tower, sized_tower

CONFIG_FILE, PREPROCESSOR_FILE = "config.json", "preprocessor_config.json"
_LLM_MODEL_TYPES = frozenset({"llama"})
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
    raw = read_json(folder / CONFIG_FILE)
    preprocessor = read_json(folder / PREPROCESSOR_FILE) if (folder / PREPROCESSOR_FILE).exists() else {}
    towers = _towers(raw, folder)
    return OpenVlaConfig(
        towers=towers,
        text=_text(raw, folder),
        pictures=_pictures(raw, preprocessor, towers),
        n_action_bins=_integer(raw, "n_action_bins", 256, folder),
        pad_to_multiple_of=_integer(raw, "pad_to_multiple_of", 64, folder),
        pad_token_id=_integer(raw, "pad_token_id", 32000, folder),
    )


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file. Raises CheckpointError when it is missing or not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; give the folder of a downloaded checkpoint") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); download it again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds no JSON object; download it again")
    return found


def _integer(raw: dict[str, Any], key: str, default: int, folder: Path) -> int:
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {key} is {value!r}, it must be a positive whole number")
    return value


def _text(raw: dict[str, Any], folder: Path) -> Text:
    text = raw.get("text_config") or {}
    model_type = text.get("model_type", "llama")
    if model_type not in _LLM_MODEL_TYPES:
        raise CheckpointError(f"{folder / CONFIG_FILE}: language model {model_type!r} is not supported, only llama is")
    for key, wanted in (("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False), ("tie_word_embeddings", False)):
        if text.get(key, wanted) != wanted:
            raise CheckpointError(f"{folder / CONFIG_FILE}: text_config.{key} is {text[key]!r}, only {wanted!r} is supported")
    rope = text.get("rope_parameters") or {}
    if text.get("rope_scaling") or rope.get("rope_type", "default") != "default":
        raise CheckpointError(f"{folder / CONFIG_FILE}: text_config.rope_scaling is set; scaled positions are not supported")
    heads = _integer(text, "num_attention_heads", 32, folder)
    found = Text(
        vocab_size=_integer(text, "vocab_size", 32000, folder),
        hidden_size=_integer(text, "hidden_size", 4096, folder),
        intermediate_size=_integer(text, "intermediate_size", 11008, folder),
        num_hidden_layers=_integer(text, "num_hidden_layers", 32, folder),
        num_attention_heads=heads,
        num_key_value_heads=_integer(text, "num_key_value_heads", heads, folder),
        rms_norm_eps=float(text.get("rms_norm_eps", 1e-6)),
        rope_theta=float(text.get("rope_theta", rope.get("rope_theta", 10000.0))),
    )
    if found.hidden_size % heads or heads % found.num_key_value_heads or found.head_dim != text.get("head_dim", found.head_dim):
        raise CheckpointError(f"{folder / CONFIG_FILE}: hidden_size, num_attention_heads and num_key_value_heads do not divide")
    return found


def _towers(raw: dict[str, Any], folder: Path) -> tuple[Tower, ...]:
    where, backbone = folder / CONFIG_FILE, raw.get("vision_backbone_id")
    size, ids = _BACKBONES.get(str(backbone), (None, None))
    ids = raw.get("timm_model_ids") or ids
    sizes = raw.get("image_sizes") or (size and [size] * len(ids or ()))
    if not ids or not sizes:
        known = ", ".join(_BACKBONES)
        raise CheckpointError(
            f"{where}: unknown vision backbone {backbone!r}; known are {known}, or give timm_model_ids and image_sizes"
        )
    sizes = [sizes] * len(ids) if isinstance(sizes, int) else list(sizes)
    wanted = 2 if raw.get("use_fused_vision_backbone", len(ids) == 2) else 1
    if len(ids) < wanted or len(sizes) < wanted:
        raise CheckpointError(f"{where}: {wanted} vision towers are wanted, timm_model_ids and image_sizes name fewer")
    if len(set(sizes[:wanted])) > 1:
        raise CheckpointError(f"{where}: image_sizes are {sizes}; both towers must see the same picture")
    activations = list(raw.get("timm_override_act_layers") or [None] * len(ids))
    dimensions = raw.get("vision_towers") or [None] * len(ids)
    if len(activations) < wanted or len(dimensions) < wanted:
        raise CheckpointError(f"{where}: timm_override_act_layers or vision_towers name fewer than {wanted} towers")
    towers = tuple(_tower(ids[i], sizes[i], activations[i], dimensions[i], where=where) for i in range(wanted))
    if len({tower.patches for tower in towers}) > 1:
        raise CheckpointError(f"{where}: the towers cut {[tower.patches for tower in towers]} patches; they must agree")
    return towers


def _tower(timm_id: str, image_size: int, activation: str | None, dimensions: dict[str, Any] | None, *, where: Path) -> Tower:
    if activation not in (None, "gelu", "quick_gelu"):
        raise CheckpointError(f"{where}: vision activation {activation!r} is not supported; gelu and quick_gelu are")
    if dimensions is None:
        tower = known_tower(timm_id, image_size=image_size, activation=activation)
    else:
        tower = sized_tower(timm_id, image_size=image_size, activation=activation, dimensions=dimensions)
    if tower is None:
        raise CheckpointError(
            f"{where}: unknown vision backbone {timm_id!r}; DINOv2, SigLIP, CLIP and augreg ViTs of timm are known"
        )
    if tower.embed_dim % tower.num_heads or tower.depth < 2 or tower.patches < 1:
        raise CheckpointError(f"{where}: vision tower {timm_id!r} has impossible dimensions: {tower}")
    return tower


def _pictures(raw: dict[str, Any], preprocessor: dict[str, Any], towers: Sequence[Tower]) -> Pictures:
    """The stored `tvf_…` values win, as in the original processor, where they overwrite what its constructor derived."""
    normalize = preprocessor.get("tvf_normalize_params")
    means = [one["mean"] for one in normalize] if normalize else preprocessor.get("means") or [tower.mean for tower in towers]
    stds = [one["std"] for one in normalize] if normalize else preprocessor.get("stds") or [tower.std for tower in towers]
    if len(means) < len(towers) or len(stds) < len(towers):
        raise CheckpointError(f"{PREPROCESSOR_FILE}: normalises {len(means)} pictures, the checkpoint has {len(towers)} towers")
    rule = preprocessor.get("image_resize_strategy") or raw.get("image_resize_strategy") or "letterbox"
    rule = "letterbox" if preprocessor.get("tvf_do_letterbox") else rule
    if rule not in ("resize-naive", "letterbox"):
        raise CheckpointError(f"image_resize_strategy {rule!r} is not supported; resize-naive and letterbox are")
    fill = preprocessor.get("tvf_letterbox_fill") or [int(value * 255) for value in means[len(means) - 1]]
    return Pictures(
        resize=rule,
        letterbox_fill=_triple(fill) if rule == "letterbox" else None,
        means=tuple(_triple(mean) for mean in means[: len(towers)]),
        stds=tuple(_triple(std) for std in stds[: len(towers)]),
    )


def _triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    if len(values) != 3:
        raise CheckpointError(f"{PREPROCESSOR_FILE}: a mean, deviation or fill has {len(values)} channels instead of 3")
    return (values[0], values[1], values[2])
