"""LeRobot's ACT: `open_checkpoint` gives what `publish` needs; the network is our own plain PyTorch."""

from export.policies.act.policy import open_checkpoint

__all__ = ["open_checkpoint"]
