"""What an operator asks of `vlaapi export build-engine`, checked before anything is built."""

from dataclasses import dataclass, field
from pathlib import Path

from export.tensorrt.library import Flavour
from export.tensorrt.profiles import Range

FP32 = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """`precision` is "fp32" or one of `Precision`. `capabilities` empty: the GPU in this machine.

    `least_agreement` is the share of tokens that must equal the original's when the precision is played on the golden vectors.
    `is_native`: Triton's own TensorRT backend serves the plan, instead of our runner in its Python backend.
    """

    precision: str
    flavour: Flavour = Flavour.TENSORRT
    capabilities: tuple[str, ...] = ()
    axes: dict[str, Range] = field(default_factory=dict)
    workspace_bytes: int = 8 << 30
    timing_cache: Path | None = None
    keep: tuple[str, ...] = ()
    carried: tuple[str, ...] = ("present*",)
    max_size_ratio: float | None = None
    least_agreement: float = 0.9
    is_native: bool = False
