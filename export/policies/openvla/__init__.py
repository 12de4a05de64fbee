"""OpenVLA in plain PyTorch: any size, from the published checkpoint layout to graphs that Triton can serve.

The family is opened by `policy.open_checkpoint`; towers, projector, Llama and weights are also the OFT family's.
"""

from export.policies.openvla.policy import open_checkpoint

__all__ = ["open_checkpoint"]
