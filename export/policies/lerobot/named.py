"""Names of the wire's tensors, and a `forward` that takes as many of them as the checkpoint has cameras.

torch.export reads a module's inputs off the signature of `forward` and takes no `**inputs`, so the names are written into it.
"""

import inspect
from collections.abc import Callable, Sequence

from torch import Tensor

STATE_TENSOR, NOISE_TENSOR, INSTRUCTION_TENSOR, ACTION_TENSOR = "state", "noise", "instruction_ids", "action"


def named(answer: Callable[..., Tensor], names: Sequence[str]) -> Callable[..., Tensor]:
    """`answer` as a function of exactly these parameters."""

    def forward(*values: Tensor, **by_name: Tensor) -> Tensor:
        return answer(**dict(zip(names, values, strict=False)), **by_name)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    setattr(forward, "__signature__", inspect.Signature(parameters))  # noqa: B010 -- where inspect looks; functions declare it not
    return forward
