"""Writes tiny OpenVLA-OFT checkpoints in the published layout, with random weights that are the same on every machine.

The reference answers in `tests/fixtures/openvla_oft_tiny` were computed by the original code on exactly these files; `digest`
proves that a checkpoint written today is that one. It imports nothing of ours, so that the original's environment can run it too.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

FIXTURE = Path(__file__).parents[1] / "fixtures" / "openvla_oft_tiny"
HIDDEN, LAYERS, FEED_FORWARD, VOCABULARY = 32, 2, 88, 32064
TOWERS = (
    {"kind": "dinov2_reg4", "embed_dim": 48, "depth": 3, "num_heads": 3},
    {"kind": "siglip", "embed_dim": 64, "depth": 3, "num_heads": 4, "mlp_ratio": 3.7362},
)
TIMM_IDS = ("vit_pico_patch14_reg4_dinov2", "vit_pico_patch14_siglip_224")
NORMALISATION = (((0.484375, 0.455078125, 0.40625), (0.228515625, 0.2236328125, 0.224609375)), ((0.5,) * 3, (0.5,) * 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Robot:
    """What one of the original's platforms makes of a checkpoint; `proprio` None means trained without a robot state."""

    name: str
    seed: int
    unnorm_keys: tuple[str, ...]
    images: int
    chunk: int
    action: int
    proprio: int | None


LIBERO = Robot(
    name="libero",
    seed=11,
    unnorm_keys=("libero_goal_no_noops", "libero_spatial_no_noops"),
    images=2,
    chunk=8,
    action=7,
    proprio=8,
)
ALOHA = Robot(name="aloha", seed=12, unnorm_keys=("aloha1_put_X_into_pot_300_demos",), images=3, chunk=25, action=14, proprio=14)
BRIDGE = Robot(name="bridge", seed=13, unnorm_keys=("bridge_orig",), images=1, chunk=5, action=7, proprio=None)
ROBOTS = {robot.name: robot for robot in (LIBERO, ALOHA, BRIDGE)}


class Weights:
    """Random bf16 tensors in the order they are asked for, from a generator whose stream is frozen for ever."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.RandomState(seed)  # the one stream that NumPy promises never to change
        self.tensors: dict[str, Tensor] = {}

    def add(self, name: str, *shape: int, mean: float = 0.0, std: float = 0.2) -> None:
        values = mean + std * self._random.standard_normal(shape)
        self.tensors[name] = torch.from_numpy(values).to(torch.bfloat16)

    def linear(self, name: str, out: int, into: int) -> None:
        self.add(f"{name}.weight", out, into, std=1.2 / into**0.5)
        self.add(f"{name}.bias", out, std=0.1)

    def norm(self, name: str, width: int) -> None:
        self.add(f"{name}.weight", width, mean=1.0, std=0.1)
        self.add(f"{name}.bias", width, std=0.1)


def write(robot: Robot, folder: Path) -> None:
    """The whole published layout: sharded bf16 weights, configurations, tokenizer, statistics, head and projector."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _config())
    _write_json(folder / "preprocessor_config.json", _preprocessor())
    _write_json(folder / "dataset_statistics.json", statistics(robot))
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(FIXTURE / file, folder / file)
    _write_json(folder / "tokenizer.json", _tokenizer())
    _write_shards(network(robot), folder)
    torch.save(_as_trained_on_many_gpus(head(robot)), folder / "action_head--10_checkpoint.pt")
    if robot.proprio is not None:
        torch.save(_as_trained_on_many_gpus(projector(robot)), folder / "proprio_projector--10_checkpoint.pt")


def digest(robot: Robot) -> str:
    """SHA-256 over every tensor's name and bytes, and the statistics."""
    found = hashlib.sha256(json.dumps(statistics(robot), sort_keys=True).encode())
    for part in (network(robot), head(robot), projector(robot)):
        for name in sorted(part):
            found.update(name.encode())
            found.update(part[name].view(torch.int16).numpy().tobytes())
    return found.hexdigest()


def network(robot: Robot) -> dict[str, Tensor]:
    """Towers, projector and language model under their published names."""
    made = Weights(robot.seed)
    _tower(made, "vision_backbone.featurizer", 48, 192, is_dinov2=True)
    _tower(made, "vision_backbone.fused_featurizer", 64, 239, is_dinov2=False)
    made.linear("projector.fc1", 448, 112)
    made.linear("projector.fc2", HIDDEN, 448)
    made.linear("projector.fc3", HIDDEN, HIDDEN)
    made.add("language_model.model.embed_tokens.weight", VOCABULARY, HIDDEN, std=0.5)
    for layer in range(LAYERS):
        _layer(made, f"language_model.model.layers.{layer}")
    made.add("language_model.model.norm.weight", HIDDEN, mean=1.0)
    made.add("language_model.lm_head.weight", VOCABULARY, HIDDEN)
    return made.tensors


def head(robot: Robot) -> dict[str, Tensor]:
    """The L1 regression head's state dict, without the prefix that DDP adds."""
    made, into = Weights(robot.seed + 1000), HIDDEN * robot.action
    made.norm("model.layer_norm1", into)
    made.linear("model.fc1", HIDDEN, into)
    for block in range(2):
        made.norm(f"model.mlp_resnet_blocks.{block}.ffn.0", HIDDEN)
        made.linear(f"model.mlp_resnet_blocks.{block}.ffn.1", HIDDEN, HIDDEN)
    made.norm("model.layer_norm2", HIDDEN)
    made.linear("model.fc2", robot.action, HIDDEN)
    return made.tensors


def projector(robot: Robot) -> dict[str, Tensor]:
    """The proprio projector's state dict; empty for a robot without one."""
    made = Weights(robot.seed + 2000)
    if robot.proprio is not None:
        made.linear("fc1", HIDDEN, robot.proprio)
        made.linear("fc2", HIDDEN, HIDDEN)
    return made.tensors


def statistics(robot: Robot) -> dict[str, object]:
    """What the training run writes into dataset_statistics.json: one entry per data set."""
    random = np.random.RandomState(robot.seed + 3000)
    return {key: _data_set(robot, random) for key in robot.unnorm_keys}


def _data_set(robot: Robot, random: np.random.RandomState) -> dict[str, object]:
    action = _spread(random, robot.action)
    is_gripper_last = robot.action == 7
    action["mask"] = [not (is_gripper_last and index == robot.action - 1) for index in range(robot.action)]
    proprio = _spread(random, robot.proprio or robot.action)
    for bound in ("min", "q01", "q99", "max"):
        proprio[bound][1] = 0.25  # a joint that never moved in the demonstrations
    return {"action": action, "proprio": proprio, "num_transitions": 52970, "num_trajectories": 432}


def _spread(random: np.random.RandomState, size: int) -> dict[str, list[float]]:
    low, width = -random.uniform(0.1, 1.0, size), random.uniform(0.5, 2.0, size)
    bounds = {"min": low, "q01": low + 0.1 * width, "q99": low + 0.9 * width, "max": low + width}
    found = {"mean": low + width / 2, "std": width / 4, **bounds}
    return {name: [float(value) for value in values] for name, values in found.items()}


def _tower(made: Weights, at: str, width: int, feed_forward: int, *, is_dinov2: bool) -> None:
    made.add(f"{at}.pos_embed", 1, 256, width)
    if is_dinov2:
        made.add(f"{at}.cls_token", 1, 1, width)
        made.add(f"{at}.reg_token", 1, 4, width)
    made.add(f"{at}.patch_embed.proj.weight", width, 3, 14, 14, std=0.05)
    made.add(f"{at}.patch_embed.proj.bias", width, std=0.1)
    for block in range(3):
        _block(made, f"{at}.blocks.{block}", width, feed_forward, has_scales=is_dinov2)
    made.norm(f"{at}.norm", width)
    if not is_dinov2:  # SigLIP's pooling head is in published checkpoints, though nothing uses it
        _pooling(made, f"{at}.attn_pool", width, feed_forward)


def _block(made: Weights, at: str, width: int, feed_forward: int, *, has_scales: bool) -> None:
    made.norm(f"{at}.norm1", width)
    made.linear(f"{at}.attn.qkv", 3 * width, width)
    made.linear(f"{at}.attn.proj", width, width)
    made.norm(f"{at}.norm2", width)
    made.linear(f"{at}.mlp.fc1", feed_forward, width)
    made.linear(f"{at}.mlp.fc2", width, feed_forward)
    if has_scales:
        made.add(f"{at}.ls1.scale_factor", width, mean=0.5)
        made.add(f"{at}.ls2.scale_factor", width, mean=0.5)


def _pooling(made: Weights, at: str, width: int, feed_forward: int) -> None:
    made.add(f"{at}.latent", 1, 1, width)
    made.linear(f"{at}.q", width, width)
    made.linear(f"{at}.kv", 2 * width, width)
    made.linear(f"{at}.proj", width, width)
    made.norm(f"{at}.norm", width)
    made.linear(f"{at}.mlp.fc1", feed_forward, width)
    made.linear(f"{at}.mlp.fc2", width, feed_forward)


def _layer(made: Weights, at: str) -> None:
    made.add(f"{at}.input_layernorm.weight", HIDDEN, mean=1.0)
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        made.add(f"{at}.self_attn.{name}.weight", HIDDEN, HIDDEN, std=1.5 / HIDDEN**0.5)
    made.add(f"{at}.post_attention_layernorm.weight", HIDDEN, mean=1.0)
    made.add(f"{at}.mlp.gate_proj.weight", FEED_FORWARD, HIDDEN, std=1.2 / HIDDEN**0.5)
    made.add(f"{at}.mlp.up_proj.weight", FEED_FORWARD, HIDDEN, std=1.2 / HIDDEN**0.5)
    made.add(f"{at}.mlp.down_proj.weight", HIDDEN, FEED_FORWARD, std=1.2 / FEED_FORWARD**0.5)


def _write_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    names = list(tensors)
    shards = {1: names[: len(names) // 2], 2: names[len(names) // 2 :]}
    files = {number: f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in shards}
    for number, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / files[number], metadata={"format": "pt"})
    places = {name: files[number] for number, members in shards.items() for name in members}
    total = sum(tensor.nbytes for tensor in tensors.values())
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})


def _tokenizer() -> dict[str, Any]:
    """The fixture's pieces of Llama's vocabulary; every other id gets a name that no text contains."""
    found: dict[str, Any] = json.loads((FIXTURE / "tokenizer.json").read_text())
    pieces = found["model"]["vocab"]
    free = set(range(32000)) - set(pieces.values())
    found["model"]["vocab"] = pieces | {f"\ue000{number}": number for number in sorted(free)}
    return found


def _as_trained_on_many_gpus(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def _config() -> dict[str, object]:
    return {
        "arch_specifier": "no-align+fused-gelu-mlp",
        "architectures": ["OpenVLAForActionPrediction"],
        "hf_llm_id": "meta-llama/Llama-2-7b-hf",
        "image_resize_strategy": "resize-naive",
        "image_sizes": [224, 224],
        "llm_backbone_id": "llama2-7b-pure",
        "llm_max_length": 2048,
        "model_type": "openvla",
        "n_action_bins": 256,
        "norm_stats": {"the_base_model": _base_model_statistics()},
        "output_projector_states": False,
        "pad_to_multiple_of": 64,
        "pad_token_id": 32000,
        "text_config": {
            "hidden_size": HIDDEN,
            "intermediate_size": FEED_FORWARD,
            "model_type": "llama",
            "num_attention_heads": 4,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": 4,
            "pad_token_id": 32000,
            "vocab_size": VOCABULARY,
        },
        "timm_model_ids": list(TIMM_IDS),
        "timm_override_act_layers": [None, None],
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.1",
        "use_fused_vision_backbone": True,
        "vision_backbone_id": "dinosiglip-vit-so-224px",
        "vision_towers": list(TOWERS),
    }


def _base_model_statistics() -> dict[str, object]:
    """A fine-tuned checkpoint's config.json still carries the base model's statistics: using them would be wrong."""
    return {"action": {"q01": [-9.0] * 7, "q99": [9.0] * 7, "min": [-9.0] * 7, "max": [9.0] * 7, "mask": [True] * 7}}


def _preprocessor() -> dict[str, object]:
    return {
        "image_processor_type": "PrismaticImageProcessor",
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, 224, 224], [3, 224, 224]],
        "interpolations": ["bicubic", "bicubic"],
        "means": [list(mean) for mean, _ in NORMALISATION],
        "stds": [list(std) for _, std in NORMALISATION],
        "processor_class": "PrismaticProcessor",
        "tvf_crop_params": [{"output_size": [224, 224]}] * 2,
        "tvf_do_letterbox": False,
        "tvf_letterbox_fill": None,
        "tvf_normalize_params": [{"inplace": False, "mean": list(mean), "std": list(std)} for mean, std in NORMALISATION],
        "tvf_resize_params": [{"antialias": True, "interpolation": 3, "max_size": None, "size": [224, 224]}] * 2,
        "use_fused_vision_backbone": True,
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
