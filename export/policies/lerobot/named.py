"""Names of the wire's tensors, a `forward` that takes as many of them as the checkpoint has cameras, and pictures off the wire.

torch.export reads a module's inputs off the signature of `forward` and takes no `**inputs`, so the names are written into it.
"""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STATE_TENSOR, NOISE_TENSOR, INSTRUCTION_TENSOR, ACTION_TENSOR = "state", "noise", "instruction_ids", "action"


def named(answer: Callable[..., Tensor], names: Sequence[str]) -> Callable[..., Tensor]:
    """`answer` as a function of exactly these parameters."""

    def forward(*values: Tensor, **by_name: Tensor) -> Tensor:
        return answer(**dict(zip(names, values, strict=False)), **by_name)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    setattr(forward, "__signature__", inspect.Signature(parameters))  # noqa: B010 -- where inspect looks; functions declare it not
    return forward


def as_picture(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 → (B, 3, H, W) float32 in [0, 1]. TensorRT takes bytes only to cast them, so that comes first."""
    return pixels.to(torch.float32).permute(0, 3, 1, 2) / 255
