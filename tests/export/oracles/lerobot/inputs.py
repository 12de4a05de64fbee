"""What the oracles of both policies share: random weights that leave no parameter trivial, statistics, observations, files.

Runs with LeRobot 0.4 (processor pipelines) and 0.3 (buffers in the policy).
"""

import json
from pathlib import Path
from typing import Any

import lerobot
import numpy as np
import torch
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from numpy.typing import NDArray

Observation = dict[str, NDArray[Any]]
Statistics = dict[str, dict[str, NDArray[np.float32]]]
IS_OLD = lerobot.__version__.startswith("0.3.")


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Norms and biases start at 0 and 1 in every network; an exporter that mixed them up would not be noticed."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("running_var"):
            value.data = 0.5 + torch.rand(value.shape, generator=generator)
        elif name.endswith(("running_mean", "bias", "in_proj_bias")):
            value.data = 0.3 * torch.randn(value.shape, generator=generator)
        elif value.ndim == 1 and name.endswith("weight"):
            value.data = 1.0 + 0.3 * torch.randn(value.shape, generator=generator)


def statistics(random: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> Statistics:
    """Every statistic of every feature, with a constant column in vectors of more than three."""
    found = {}
    for key, shape in shapes.items():
        size = (3, 1, 1) if len(shape) == 3 else shape
        low, width = random.uniform(-1.0, 0.0, size), random.uniform(0.5, 2.0, size)
        if len(shape) == 1 and shape[0] > 3:
            width[1] = 0.0
        points = {"min": 0.0, "q01": 0.05, "q10": 0.15, "mean": 0.5, "q90": 0.85, "q99": 0.95, "max": 1.0}
        values = {name: low + share * width for name, share in points.items()} | {"std": width / 4 + 0.01}
        found[key] = {name: value.astype(np.float32) for name, value in values.items()}
    return found


def observations(
    random: np.random.Generator, config: Any, scales: Statistics, count: int, sizes: dict[str, tuple[int, int]] | None = None
) -> Observation:
    """Patches of colour as uint8 (count, H, W, 3), and vectors around nought whose constant column is constant.

    `sizes` are the cameras that there are, (height, width); without it all of the configuration's.
    """
    found: Observation = {}
    for key, shape in ((key, one.shape) for key, one in config.input_features.items()):
        if len(shape) == 3:
            if sizes is not None and key not in sizes:
                continue
            shape = shape if sizes is None else (3, *sizes[key])
            coarse = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
            rows, columns = np.arange(shape[1]) * 4 // shape[1], np.arange(shape[2]) * 4 // shape[2]
            found[key] = coarse[:, rows][:, :, columns]
        else:
            values = random.normal(0.0, 0.7, (count, *shape)).astype(np.float32)
            is_constant = scales[key]["min"] == scales[key]["max"]
            found[key] = np.where(is_constant, scales[key]["min"], values)
    return found


def tensors(observation: Observation, row: int) -> dict[str, Any]:
    """One moment as LeRobot's own loop hands it to the policy: pictures /255 as (1, 3, H, W)."""
    found: dict[str, Any] = {}
    for key, values in observation.items():
        value = torch.from_numpy(values[row].copy())
        if "image" in key:
            value = (value.type(torch.float32) / 255).permute(2, 0, 1).contiguous()
        found[key] = value[None]
    return found


def save(policy: Any, folder: Path, pipelines: tuple[Any, Any] | None, sizes: dict[str, tuple[int, int]] | None = None) -> None:
    """The policy and, from 0.4, its two pipelines, as `lerobot-train` saves them."""
    policy.save_pretrained(folder)
    for pipeline in pipelines or ():
        pipeline.save_pretrained(folder)
    training = TrainPipelineConfig(dataset=DatasetConfig(repo_id=f"vlaapi/{folder.name}"), policy=policy.config)
    training.save_pretrained(folder)
    (folder / "robot.json").write_text(json.dumps(robot(policy.config, sizes), indent=2) + "\n")


def freeze_answers(folder: Path, arrays: Observation) -> None:
    """What went in and what came out."""
    np.savez_compressed(folder / "answers.npz", allow_pickle=False, **arrays)


def robot(config: Any, sizes: dict[str, tuple[int, int]] | None) -> dict[str, Any]:
    """What our exporter asks the operator for: `robot.json`. The names mean nothing."""
    named = {"state": config.robot_state_feature, "environment": config.env_state_feature, "action": config.action_feature}
    found: dict[str, Any] = {}
    if sizes is not None:
        found["cameras"] = {key.rpartition(".")[2]: [width, height] for key, (height, width) in sizes.items()}
    for part, feature in named.items():
        if feature is not None:
            size = feature.shape[0]
            found[part] = {"names": [f"{part}_{index}" for index in range(size)], "units": ["rad"] * size}
    found["action"] |= {"frame": "joints", "gripper_polarity": None}
    return found
