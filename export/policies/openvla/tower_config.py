"""The vision transformers that OpenVLA and Prismatic use, by timm id: dimensions, tokens before the patches, norms, colours.

A rule per family instead of a table per id, because sizes and patch sizes are part of the id. It knows timm's facts
(timm 0.9.10 `vision_transformer.py`), no torch and no files. Called by `config`.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

# embed_dim, depth, heads, mlp_ratio of timm's sizes. DINOv2's giant has another feed-forward (SwiGLU) and is left out.
_SIZES: dict[str, tuple[int, int, int, float]] = {
    "tiny": (192, 12, 3, 4.0),
    "small": (384, 12, 6, 4.0),
    "base": (768, 12, 12, 4.0),
    "large": (1024, 24, 16, 4.0),
    "so400m": (1152, 27, 16, 3.7362),
    "huge": (1280, 32, 16, 4.0),
}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """One vision transformer. `is_prefix_positioned`: class and register tokens own rows of the position table."""

    timm_id: str
    image_size: int
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    has_class_token: bool
    register_tokens: int
    is_prefix_positioned: bool
    has_layer_scale: bool
    has_pre_norm: bool
    has_attention_pool: bool
    activation: str
    norm_eps: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches."""
        return int(self.has_class_token) + self.register_tokens

    @property
    def patches(self) -> int:
        """Patches of one picture; a remainder at the right and lower edge is not seen."""
        return (self.image_size // self.patch_size) ** 2


def _family(kind: str) -> Tower | None:
    plain = Tower(
        timm_id="",
        image_size=0,
        patch_size=0,
        embed_dim=0,
        depth=0,
        num_heads=0,
        mlp_dim=0,
        has_class_token=True,
        register_tokens=0,
        is_prefix_positioned=True,
        has_layer_scale=False,
        has_pre_norm=False,
        has_attention_pool=False,
        activation="gelu",
        norm_eps=1e-6,
        mean=_HALF[0],
        std=_HALF[1],
    )
    match kind:
        case "augreg":
            return plain
        case "dinov2":
            return replace(plain, has_layer_scale=True, mean=_IMAGENET[0], std=_IMAGENET[1])
        case "dinov2_reg4":
            registers = replace(plain, register_tokens=4, is_prefix_positioned=False)
            return replace(registers, has_layer_scale=True, mean=_IMAGENET[0], std=_IMAGENET[1])
        case "siglip":
            return replace(plain, has_class_token=False, has_attention_pool=True)
        case "clip":
            return replace(plain, has_pre_norm=True, norm_eps=1e-5, mean=_CLIP[0], std=_CLIP[1])
        case _:
            return None


def _kind(timm_id: str) -> str:
    for mark, kind in (("reg4_dinov2", "dinov2_reg4"), ("dinov2", "dinov2"), ("siglip", "siglip"), ("clip", "clip")):
        if mark in timm_id and not re.search(r"_gap_|reg8|_quickgelu", timm_id):
            return kind
    return "augreg" if ".augreg" in timm_id else ""


def known_tower(timm_id: str, *, image_size: int, activation: str | None) -> Tower | None:
    """The tower of a published timm id, or None if nothing is known about it."""
    size = re.match(r"vit_([a-z0-9]+)_patch\d+_", timm_id)
    if size is None or size[1] not in _SIZES:
        return None
    width, depth, heads, ratio = _SIZES[size[1]]
    dimensions = {"embed_dim": width, "depth": depth, "num_heads": heads, "mlp_ratio": ratio}
    return sized_tower(timm_id, image_size=image_size, activation=activation, dimensions=dimensions)


def sized_tower(timm_id: str, *, image_size: int, activation: str | None, dimensions: dict[str, Any]) -> Tower | None:
    """A tower whose dimensions stand in the checkpoint's `vision_towers`; family and patch size follow from the id if absent."""
    patch = re.search(r"patch(\d+)", timm_id)
    patch_size = dimensions.get("patch_size") or (int(patch[1]) if patch else None)
    family = _family(str(dimensions.get("kind") or _kind(timm_id)))
    if family is None or patch_size is None or not {"embed_dim", "depth", "num_heads"} <= dimensions.keys():
        return None
    width = int(dimensions["embed_dim"])
    return replace(
        family,
        timm_id=timm_id,
        image_size=image_size,
        patch_size=int(patch_size),
        embed_dim=width,
        depth=int(dimensions["depth"]),
        num_heads=int(dimensions["num_heads"]),
        mlp_dim=int(width * float(dimensions.get("mlp_ratio", 4.0))),
        activation=activation or family.activation,
    )
