"""OpenVLA-OFT in plain PyTorch: one bidirectional pass from pictures, words and robot state to a chunk of continuous actions."""

from export.policies.openvla_oft.policy import open_checkpoint

__all__ = ["open_checkpoint"]
