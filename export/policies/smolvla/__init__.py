"""LeRobot's SmolVLA: `open_checkpoint` gives what `publish` needs; the network is our own plain PyTorch."""

from export.policies.smolvla.policy import open_checkpoint

__all__ = ["open_checkpoint"]
