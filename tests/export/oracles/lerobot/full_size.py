"""Compares our networks with LeRobot's own at full size and in settings that no fixture has; prints differences, keeps nothing.

    python -m tests.export.oracles.lerobot.full_size

Needs LeRobot 0.4.4, 8 GB of memory and some minutes. The weights are random, so no checkpoint has to be fetched: real ResNets at
640 × 480, and a SmolVLA on a SmolVLM2 of the published 500M's shape (with the small tokenizer of the fixture).
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors

from export.families import open_policy
from tests.export.lerobot_checkpoints import asked, options
from tests.export.oracles.lerobot import act, smolvla
from tests.export.oracles.lerobot.inputs import freeze_answers, observations, randomise, save, statistics
from tests.export.published_smolvla import grow_vlm

COUNT = 2
STATE, ACTION = PolicyFeature(FeatureType.STATE, (14,)), PolicyFeature(FeatureType.ACTION, (14,))
PICTURE = PolicyFeature(FeatureType.VISUAL, (3, 480, 640))
CAMERAS = {f"observation.images.{name}": PICTURE for name in ("top", "left", "right")}
INPUTS: dict[str, Any] = {"input_features": CAMERAS | {"observation.state": STATE}, "output_features": {"action": ACTION}}
ACTS: dict[str, dict[str, Any]] = {
    "ACT, resnet18, as published for ALOHA": {"vision_backbone": "resnet18"},
    "ACT, resnet34": {"vision_backbone": "resnet34"},
    "ACT, resnet50, dilated": {"vision_backbone": "resnet50", "replace_final_stride_with_dilation": True},
}
PUBLISHED: dict[str, Any] = {"num_vlm_layers": 16, "num_expert_layers": 0, "expert_width_multiplier": 0.75}
TINY: dict[str, Any] = {"resize_imgs_with_padding": (64, 64), "num_vlm_layers": 4}
SMOLVLAS: dict[str, tuple[bool, dict[str, Any]]] = {
    "SmolVLA, tiny, every layer joint": (False, TINY | {"attention_mode": "self_attn"}),
    "SmolVLA, tiny, no layer joint": (False, TINY | {"self_attn_every_n_layers": -1}),
    "SmolVLA, tiny, half as many expert layers": (False, TINY | {"num_expert_layers": 2, "self_attn_every_n_layers": 4}),
    "SmolVLA, tiny, marked pictures": (False, TINY | {"add_image_special_tokens": True}),
    "SmolVLA, the published 450M's shape": (True, PUBLISHED),
}


def main() -> None:
    """One line per setting."""
    with tempfile.TemporaryDirectory() as scratch:
        for index, (name, changes) in enumerate(ACTS.items()):
            config = ACTConfig(**INPUTS, **changes, pretrained_backbone_weights=None, device="cpu")
            _compare(name, "act", ACTPolicy(config), make_act_pre_post_processors, Path(scratch) / f"act{index}")
        for index, (name, (is_published, changes)) in enumerate(SMOLVLAS.items()):
            folder = Path(scratch) / f"smolvla{index}"
            smolvla.write_vlm(folder / "vlm")
            if is_published:
                grow_vlm(folder / "vlm" / "config.json")
            config = SmolVLAConfig(**INPUTS, **changes, vlm_model_name=str(folder / "vlm"), load_vlm_weights=False, device="cpu")
            _compare(name, "smolvla", SmolVLAPolicy(config), make_smolvla_pre_post_processors, folder)


def _compare(name: str, family: str, policy: Any, pipelines: Any, folder: Path) -> None:
    config, random = policy.config, np.random.default_rng(3)
    shapes = {key: one.shape for key, one in {**config.input_features, **config.output_features}.items()}
    scales = statistics(random, shapes)
    randomise(policy.model, 5)
    policy.eval()
    both = pipelines(config, dataset_stats=scales)
    sizes = None if family == "act" else dict.fromkeys(CAMERAS, (480, 640))
    save(policy, folder, both, sizes)
    seen = observations(random, config, scales, COUNT, sizes)
    start = time.perf_counter()
    if family == "act":
        chunks = np.stack([act.ask(policy, both, seen, row)[0] for row in range(COUNT)])
    else:
        (folder / "sentences.json").write_text(json.dumps(smolvla.SENTENCES[:COUNT]))
        noise = random.standard_normal((COUNT, config.chunk_size, config.max_action_dim)).astype(np.float32)
        asks = [smolvla.ask(policy, both, seen, row, noise=torch.from_numpy(noise[row : row + 1])) for row in range(COUNT)]
        chunks, seen = np.stack([chunk for chunk, _ in asks]), seen | {"noise": noise}
    theirs_s = time.perf_counter() - start
    freeze_answers(folder, seen | {"answer.chunk": chunks})
    size = sum(parameter.numel() for parameter in policy.parameters())
    ours = open_policy(family, options(folder))
    inputs, expected = asked(folder, ours.manifest(version=1, sha256={}))
    start = time.perf_counter()
    (found,) = ours.answers(inputs)
    ours_s = time.perf_counter() - start
    difference = float(np.abs(found.numpy() - expected).max())
    print(f"{name}: {size / 1e6:.1f} M parameters, differs by {difference:.1e} of {np.abs(expected).max():.1f}", flush=True)
    print(f"  theirs {theirs_s:.1f} s (each chunk twice, one by one), ours {ours_s:.1f} s (all at once)", flush=True)


if __name__ == "__main__":
    main()
