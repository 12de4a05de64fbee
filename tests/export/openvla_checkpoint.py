"""Writes OpenVLA checkpoints of any size in the published layout: random weights, the names and shapes listed here by hand.

The list is the published checkpoint's (982 tensors, 7,541,237,184 parameters for the 7B shape), not read from our network, so
that the two can disagree. Weights are drawn so that the action tokens vary with picture and words.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
EMPTY_TOKEN, VOCABULARY, PAD = 29871, 32000, 32000
FIRST_ACTION, ACTION_BINS = 31744, 256
PUBLISHED_TOWERS = (
    {"kind": "dinov2_reg4", "embed_dim": 1024, "depth": 24, "num_heads": 16},
    {"kind": "siglip", "embed_dim": 1152, "depth": 27, "num_heads": 16, "mlp_ratio": 3.7362},
)
TINY_TOWERS = (
    {"kind": "dinov2_reg4", "embed_dim": 24, "depth": 3, "num_heads": 3},
    {"kind": "siglip", "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 3.7362},
)
TIMM_IDS = {
    "dinov2_reg4": "vit_own_patch14_reg4_dinov2",
    "dinov2": "vit_own_patch14_dinov2",
    "siglip": "vit_own_patch14_siglip",
    "clip": "vit_own_patch14_clip.openai",
    "augreg": "vit_own_patch16.augreg",
}


def statistics(length: int, *, seed: int = 0, has_mask: bool = True) -> dict[str, Any]:
    """One dataset's entry of `norm_stats`."""
    random = torch.Generator().manual_seed(seed)
    low = (-torch.rand(length, generator=random, dtype=torch.float64)).tolist()
    high = torch.rand(length, generator=random, dtype=torch.float64).tolist()
    action: dict[str, Any] = {"q01": low, "q99": high, "mean": low, "std": high, "min": low, "max": high}
    if has_mask:
        action["mask"] = [True] * (length - 1) + [False]
    return {"action": action, "num_trajectories": 1, "num_transitions": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What to write. `text` and `config` add to or replace what would be written."""

    towers: tuple[dict[str, Any], ...] = TINY_TOWERS
    image_size: int = 28
    text: dict[str, Any] = field(
        default_factory=lambda: {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
    )
    norm_stats: dict[str, Any] = field(default_factory=lambda: {"only_one": statistics(7)})
    config: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    shards: int = 1
    seed: int = 0

    def config_json(self) -> dict[str, Any]:
        """The checkpoint's `config.json`."""
        return {
            "model_type": "openvla",
            "architectures": ["OpenVLAForActionPrediction"],
            "vision_backbone_id": "dinosiglip-vit-so-224px",
            "use_fused_vision_backbone": len(self.towers) == 2,
            "image_resize_strategy": "resize-naive",
            "image_sizes": [self.image_size] * len(self.towers),
            "timm_model_ids": [TIMM_IDS[tower["kind"]] for tower in self.towers],
            "timm_override_act_layers": ["quick_gelu" if tower["kind"] == "clip" else None for tower in self.towers],
            "vision_towers": list(self.towers),
            "n_action_bins": ACTION_BINS,
            "pad_to_multiple_of": 64,
            "pad_token_id": PAD,
            "text_config": {"model_type": "llama", "vocab_size": 32064, "pad_token_id": PAD} | self.text,
            "norm_stats": self.norm_stats,
        } | self.config

    def preprocessor_json(self) -> dict[str, Any]:
        """The checkpoint's `preprocessor_config.json`."""
        mean, std = [[0.484375, 0.455078125, 0.40625], [0.5] * 3], [[0.228515625, 0.2236328125, 0.224609375], [0.5] * 3]
        return {
            "image_resize_strategy": "resize-naive",
            "input_sizes": [[3, self.image_size, self.image_size]] * len(self.towers),
            "means": mean[: len(self.towers)],
            "stds": std[: len(self.towers)],
        } | self.preprocessor


def published_shapes(shape: Shape) -> Shapes:
    """Every tensor of the checkpoint by its published name."""
    llm = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32} | shape.text
    hidden, width = llm["hidden_size"], sum(tower["embed_dim"] for tower in shape.towers)
    names = ("vision_backbone.featurizer", "vision_backbone.fused_featurizer")
    shapes: Shapes = {}
    for name, tower in zip(names, shape.towers, strict=False):
        shapes |= {f"{name}.{key}": value for key, value in _tower(tower, shape.image_size).items()}
    if len(shape.towers) == 2:
        shapes |= _linear("projector.fc1", 4 * width, width) | _linear("projector.fc2", hidden, 4 * width)
        shapes |= _linear("projector.fc3", hidden, hidden)
    else:
        shapes |= _linear("projector.fc1", hidden, width) | _linear("projector.fc2", hidden, hidden)
    return shapes | _llama(llm, vocabulary=llm.get("vocab_size", 32064))


def _linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _tower(tower: dict[str, Any], image_size: int) -> Shapes:
    kind, dim = tower["kind"], tower["embed_dim"]
    patch = tower.get("patch_size", 16 if kind == "augreg" else 14)
    hidden, patches = int(dim * tower.get("mlp_ratio", 4.0)), (image_size // patch) ** 2
    prefix = {"dinov2_reg4": 0, "siglip": 0}.get(kind, 1)
    shapes: Shapes = {"pos_embed": (1, patches + prefix, dim), "patch_embed.proj.weight": (dim, 3, patch, patch)}
    shapes |= {} if kind == "clip" else {"patch_embed.proj.bias": (dim,)}
    shapes |= {} if kind == "siglip" else {"cls_token": (1, 1, dim)}
    shapes |= {"reg_token": (1, 4, dim)} if kind == "dinov2_reg4" else {}
    shapes |= _norm("norm_pre", dim) if kind == "clip" else {}
    shapes |= _norm("norm", dim)
    for index in range(tower["depth"]):
        block = f"blocks.{index}"
        shapes |= _norm(f"{block}.norm1", dim) | _norm(f"{block}.norm2", dim)
        shapes |= _linear(f"{block}.attn.qkv", 3 * dim, dim) | _linear(f"{block}.attn.proj", dim, dim)
        shapes |= _linear(f"{block}.mlp.fc1", hidden, dim) | _linear(f"{block}.mlp.fc2", dim, hidden)
        shapes |= {f"{block}.ls{one}.scale_factor": (dim,) for one in (1, 2)} if kind.startswith("dinov2") else {}
    if kind == "siglip":
        shapes |= {"attn_pool.latent": (1, 1, dim)} | _norm("attn_pool.norm", dim)
        shapes |= _linear("attn_pool.q", dim, dim) | _linear("attn_pool.kv", 2 * dim, dim) | _linear("attn_pool.proj", dim, dim)
        shapes |= _linear("attn_pool.mlp.fc1", hidden, dim) | _linear("attn_pool.mlp.fc2", dim, hidden)
    return shapes


def _llama(llm: dict[str, Any], *, vocabulary: int) -> Shapes:
    hidden, inner = llm["hidden_size"], llm["intermediate_size"]
    narrow = hidden // llm["num_attention_heads"] * llm.get("num_key_value_heads", llm["num_attention_heads"])
    shapes: Shapes = {
        "language_model.model.embed_tokens.weight": (vocabulary, hidden),
        "language_model.model.norm.weight": (hidden,),
        "language_model.lm_head.weight": (vocabulary, hidden),
    }
    for index in range(llm["num_hidden_layers"]):
        layer = f"language_model.model.layers.{index}"
        shapes |= {f"{layer}.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (hidden, hidden) for name in "qo"}
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (narrow, hidden) for name in "kv"}
        shapes |= {f"{layer}.mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (hidden, inner)}
    return shapes


def random_weights(shape: Shape) -> dict[str, Tensor]:
    """A tensor for each published name; action tokens win most of the time, as in a trained policy."""
    random = torch.Generator().manual_seed(shape.seed)
    return {name: _random(name, size, random).to(shape.dtype) for name, size in sorted(published_shapes(shape).items())}


def _random(name: str, size: tuple[int, ...], random: torch.Generator) -> Tensor:
    noise = torch.randn(size, generator=random)
    if name.endswith("lm_head.weight"):
        noise[:FIRST_ACTION] *= 0.5
        return noise
    if "norm" in name and name.endswith("weight"):
        return 1.0 + 0.1 * noise
    if name.endswith("scale_factor"):
        return 0.5 + 0.1 * noise
    if "embed" in name and "proj" not in name:
        return noise
    fan_in = size[-1] if len(size) == 2 else 588 if len(size) == 4 else 100
    return noise * (1.5 / fan_in**0.5)


def write_checkpoint(folder: Path, shape: Shape) -> Path:
    """Writes config, preprocessor, tokenizer and weights into `folder`; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape.config_json()))
    (folder / "preprocessor_config.json").write_text(json.dumps(shape.preprocessor_json()))
    tokenizer().save(str(folder / "tokenizer.json"))
    write_weights(folder, random_weights(shape), shards=shape.shards)
    return folder


def write_weights(folder: Path, weights: dict[str, Tensor], *, shards: int) -> None:
    """One `model.safetensors`, or shards with their index."""
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    files = {name: f"model-{index % shards + 1:05}-of-{shards:05}.safetensors" for index, name in enumerate(weights)}
    for file in sorted(set(files.values())):
        part = {name: tensor for name, tensor in weights.items() if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def tokenizer() -> Tokenizer:
    """32000 pieces with Llama's special ids, bytes and “▁” where Llama has it; words are spelt letter by letter."""
    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": EMPTY_TOKEN} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    letters = [chr(code) for code in range(33, 127)]
    pieces |= {letter: EMPTY_TOKEN + 1 + index for index, letter in enumerate(letters)}
    taken = set(pieces.values())
    pieces |= {f"⟨{number}⟩": number for number in range(VOCABULARY) if number not in taken}
    made = Tokenizer(models.BPE(vocab=pieces, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made.add_special_tokens(["<unk>", "<s>", "</s>", "<PAD>"])
    return made


def single_tower(kind: str, **changes: Any) -> Shape:
    """A checkpoint with one tower of a kind."""
    tower = {"kind": kind, "embed_dim": 24, "depth": 3, "num_heads": 3}
    return replace(Shape(towers=(tower,), image_size=32 if kind == "augreg" else 28), **changes)
