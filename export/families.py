"""Which policy families can be exported, and where each lives. Adding one is one line here.

Nothing is imported before it is asked for: a family may need packages that the others do not.
"""

import importlib
from dataclasses import dataclass

from export.policies.adapter import CheckpointError, CheckpointOptions, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A module with `open_checkpoint(options) -> Policy`, and what its checkpoints are, for the command's help.

    `default_robots` is what it takes without `--robot`: empty where the checkpoint tells, None where somebody must say it.
    """

    module: str
    checkpoints: str
    default_robots: tuple[str, ...] | None = None
    takes_crop: bool = False  # whether an operator may state crop and rotation; elsewhere the checkpoint's own files do


FAMILIES: dict[str, Family] = {
    "openvla-oft": Family(
        module="export.policies.openvla_oft",
        checkpoints="OpenVLA-OFT with an L1 regression head, as its training run wrote it",
        default_robots=(),
    ),
    "tabletop": Family(module="export.policies.tabletop", checkpoints="the policy that ships, from committed weights"),
    "openvla": Family(
        module="export.policies.openvla",
        checkpoints="OpenVLA as published on Hugging Face, or fine-tuned",
        takes_crop=True,
        default_robots=("franka_panda",),  # the control plane's own default: what robots it fits, no checkpoint says
    ),
    "act": Family(module="export.policies.act", checkpoints="LeRobot's ACT, as it saves it"),
    "smolvla": Family(module="export.policies.smolvla", checkpoints="LeRobot's SmolVLA, with its SmolVLM2's files in `vlm`"),
}


def open_policy(family: str, options: CheckpointOptions) -> Policy:
    """The checkpoint opened by its family. Raises CheckpointError, also when a package that the family needs is missing."""
    if not options.checkpoint.is_dir():
        raise CheckpointError(f"{options.checkpoint} is not a folder; give the folder of a downloaded checkpoint")
    if (options.crop_area is not None or options.rotate_180) and not FAMILIES[family].takes_crop:
        raise CheckpointError(f"{family} reads crop and rotation from files beside the checkpoint; leave the options out")
    try:
        module = importlib.import_module(FAMILIES[family].module)
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{family} needs the package {error.name}, which is not installed here") from None
    policy: Policy = module.open_checkpoint(options)
    return policy
