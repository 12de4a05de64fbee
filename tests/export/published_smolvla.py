"""Writes a SmolVLA checkpoint of the published 450M's shape with random weights, as LeRobot saves one.

    python -m tests.export.published_smolvla FOLDER

Everything but sizes and weights is the tiny fixture's, its small tokenizer too. Needs no LeRobot and 4 GB of memory. For trying
the exporter at full size by hand (`docs/LOG.md` has what came out); the tests themselves use the tiny one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from export.policies.lerobot.layout import Weights, read_settings
from export.policies.smolvla.network import FlowMatching, Layout
from export.policies.smolvla.settings import SmolVlaSettings, layout_of, read_vlm
from tests.export.lerobot_checkpoints import Spoiled, spoil

TEXT = {
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "head_dim": 64,
    "num_hidden_layers": 32,
    "vocab_size": 49280,
}
VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 16,
    "image_size": 512,
}
POLICY: dict[str, Any] = {
    "chunk_size": 50,
    "n_action_steps": 50,
    "num_steps": 10,
    "max_state_dim": 32,
    "max_action_dim": 32,
    "resize_imgs_with_padding": [512, 512],
    "num_vlm_layers": 16,
}
CAMERAS = dict.fromkeys(("camera1", "camera2", "camera3"), (256, 256))
EXPERT_WIDTH, EXPERT_INNER = 720, 2048  # 0.75 of 960, and what LeRobot makes of it
VLM, EXPERT = "vlm_with_expert.vlm.model.", "vlm_with_expert.lm_expert."


def grow_vlm(config: Path) -> None:
    """The published SmolVLM2-500M's sizes in place of the fixture's."""
    found = json.loads(config.read_text())
    found["text_config"].update(TEXT)
    found["vision_config"].update(VISION)
    config.write_text(json.dumps(found))


def write_checkpoint(folder: Path) -> None:
    """About 1.1 GB: the vision-language model in bfloat16, as LeRobot trains it, the rest in float32."""
    copy = spoil("smolvla_tiny", folder.parent).folder
    copy.rename(folder)
    here = Spoiled(folder)
    here.config(**POLICY)
    here.json("robot.json", lambda found: found.update(cameras=CAMERAS))
    grow_vlm(folder / "vlm" / "config.json")
    save_file(_weights(_layout(folder)), folder / "model.safetensors")


def _layout(folder: Path) -> Layout:
    """Widths and depths come from the weights, which are only sketched here."""
    settings = read_settings(folder, "smolvla", SmolVlaSettings)
    shapes = {
        f"{VLM}vision_model.post_layernorm.weight": (VISION["hidden_size"],),
        f"{VLM}vision_model.encoder.layers.0.mlp.fc1.weight": (VISION["intermediate_size"], VISION["hidden_size"]),
        f"{VLM}text_model.embed_tokens.weight": (TEXT["vocab_size"], TEXT["hidden_size"]),
    }
    shapes |= {f"{VLM}vision_model.encoder.layers.{index}.": () for index in range(VISION["num_hidden_layers"])}
    for index in range(POLICY["num_vlm_layers"]):
        shapes[f"{VLM}text_model.layers.{index}.mlp.gate_proj.weight"] = (TEXT["intermediate_size"], TEXT["hidden_size"])
        shapes[f"{EXPERT}layers.{index}.mlp.gate_proj.weight"] = (EXPERT_INNER, EXPERT_WIDTH)
    sketch = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return layout_of(settings, read_vlm(folder / "vlm"), sketch, None)


def _weights(layout: Layout) -> Weights:
    """Scaled so that every layer passes on what it gets; the head that is never used is there too."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in FlowMatching(layout).state_dict().items()}
    text = "vlm_with_expert.vlm.model.text_model."
    head = {
        "vlm_with_expert.vlm.lm_head.weight": shapes[f"{text}embed_tokens.weight"],
        f"{text}norm.weight": (TEXT["hidden_size"],),
    }
    random, found = torch.Generator().manual_seed(5), {}
    for name, shape in {**shapes, **head}.items():
        value = torch.randn(shape, generator=random) * (shape[1:].numel() ** -0.5 if len(shape) > 1 else 0.1)
        if len(shape) == 1 and name.endswith("weight"):
            value += 1.0
        found[f"model.{name}"] = value.to(torch.bfloat16) if name.startswith("vlm_with_expert.vlm.") else value
    return found


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]))
