"""Freezes what LeRobot's own ACT answers: writes `tests/fixtures/act_tiny` (0.4.4) or `act_tiny_old` (0.3.3, buffers).

    python -m tests.export.oracles.lerobot.act tests/fixtures

The backbone is torchvision's ResNet with an eighth of its channels, because LeRobot's configuration cannot make it smaller.
`full_size.py` compares the real ones.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from torchvision.models.resnet import BasicBlock, ResNet

from tests.export.oracles.lerobot.inputs import (
    IS_OLD,
    Observation,
    freeze_answers,
    observations,
    randomise,
    save,
    statistics,
    tensors,
)

COUNT = 4
NEW = {
    "input_features": {
        "observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, 64, 96)),
        "observation.images.wrist-cam": PolicyFeature(FeatureType.VISUAL, (3, 64, 96)),
        "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
    },
    "output_features": {"action": PolicyFeature(FeatureType.ACTION, (6,))},
    "chunk_size": 10,
    "n_action_steps": 8,
    "n_vae_encoder_layers": 1,
    "n_encoder_layers": 2,
}
OLD = {
    "input_features": {
        "observation.state": PolicyFeature(FeatureType.STATE, (5,)),
        "observation.environment_state": PolicyFeature(FeatureType.ENV, (4,)),
        "observation.image": PolicyFeature(FeatureType.VISUAL, (3, 70, 50)),
    },
    "output_features": {"action": PolicyFeature(FeatureType.ACTION, (5,))},
    "normalization_mapping": {
        "VISUAL": NormalizationMode.IDENTITY,
        "STATE": NormalizationMode.MIN_MAX,
        "ENV": NormalizationMode.MEAN_STD,
        "ACTION": NormalizationMode.MIN_MAX,
    },
    "chunk_size": 6,
    "n_action_steps": 6,
    "use_vae": False,
    "pre_norm": True,
    "feedforward_activation": "gelu",
    "n_encoder_layers": 2,
    "n_decoder_layers": 2,
}
SMALL = {
    "dim_model": 32,
    "n_heads": 4,
    "dim_feedforward": 48,
    "latent_dim": 8,
    "pretrained_backbone_weights": None,
    "device": "cpu",
}


def narrow(*, replace_stride_with_dilation: list[bool], weights: None, norm_layer: Any) -> ResNet:
    """torchvision's resnet18 with 8 channels where it has 64."""
    model = ResNet(BasicBlock, [2, 2, 2, 2], norm_layer=norm_layer, replace_stride_with_dilation=replace_stride_with_dilation)
    model.inplanes = 8
    model.conv1 = torch.nn.Conv2d(3, 8, kernel_size=7, stride=2, padding=3, bias=False)
    model.bn1 = norm_layer(8)
    for stage in range(4):
        blocks = model._make_layer(BasicBlock, 8 << stage, 2, stride=1 if stage == 0 else 2)
        setattr(model, f"layer{stage + 1}", blocks)
    model.fc = torch.nn.Linear(64, 2)
    return model


def main() -> None:
    """Writes the fixture of the LeRobot that is installed."""
    original, torchvision.models.resnet18 = torchvision.models.resnet18, narrow
    folder = Path(sys.argv[1]) / ("act_tiny_old" if IS_OLD else "act_tiny")
    freeze(folder, (OLD if IS_OLD else NEW) | SMALL)
    torchvision.models.resnet18 = original


def freeze(folder: Path, settings: dict[str, Any]) -> None:
    """A checkpoint of random weights in `folder`, and `answers.npz` beside it: what went in, the chunk, the first action."""
    torch.manual_seed(3)
    config = ACTConfig(**settings)
    shapes = {key: one.shape for key, one in {**config.input_features, **config.output_features}.items()}
    random = np.random.default_rng(11)
    scales = statistics(random, shapes)
    policy = ACTPolicy(config, **({"dataset_stats": scales} if IS_OLD else {}))
    randomise(policy.model, 5)
    policy.model.action_head.weight.data *= 10  # so that what the network sees shows in what it answers
    policy.eval()
    pipelines = None if IS_OLD else _pipelines(config, scales)
    save(policy, folder, pipelines)
    seen = observations(random, config, scales, COUNT)
    found = [ask(policy, pipelines, seen, row) for row in range(COUNT)]
    chunks, firsts = (np.stack([answer[part] for answer in found]) for part in (0, 1))
    freeze_answers(folder, seen | {"answer.chunk": chunks, "answer.first": firsts})


def ask(policy: Any, pipelines: tuple[Any, Any] | None, seen: Observation, row: int) -> tuple[Any, Any]:
    """The whole chunk, and what `select_action` gives first, in physical units."""
    policy.reset()
    if pipelines is None:
        policy.config.n_action_steps = policy.config.chunk_size
        policy.reset()
        steps = [policy.select_action(tensors(seen, row))[0].numpy() for _ in range(policy.config.chunk_size)]
        return np.stack(steps), steps[0]
    before, after = pipelines
    chunk = after(policy.predict_action_chunk(before(tensors(seen, row))))
    return chunk[0].numpy(), after(policy.select_action(before(tensors(seen, row))))[0].numpy()


def _pipelines(config: ACTConfig, scales: Any) -> tuple[Any, Any]:
    from lerobot.policies.act.processor_act import make_act_pre_post_processors

    return make_act_pre_post_processors(config, dataset_stats=scales)


if __name__ == "__main__":
    main()
