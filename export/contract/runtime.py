"""In which forms a policy can be served: ONNX graphs by precision, TensorRT plans by GPU, and how each was proven.

Facts only; `export/python_backend/<runner>.py` runs them, `export.triton_config` writes the server's configuration from them.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from export.contract.facts import FileName
from export.contract.statistics import Fact, NonEmpty, NonNegative, PositiveInt

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ShapeRange(Fact):
    """The shapes of one input, batch first, that a profile takes; `opt` is what the kernels were chosen for."""

    min: tuple[PositiveInt, ...]
    opt: tuple[PositiveInt, ...]
    max: tuple[PositiveInt, ...]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ValueError(f"min, opt and max differ in rank: {self.min}, {self.opt}, {self.max}")
        if not all(low <= middle <= high for low, middle, high in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError(f"min ≤ opt ≤ max does not hold: {self.min}, {self.opt}, {self.max}")
        return self


class PlannedGraph(Fact):
    """One graph of a plan: what it was built from, and what came out."""

    file: FileName  # the plan's
    profiles: Annotated[tuple[dict[str, ShapeRange], ...], Field(min_length=1)]  # by input
    onnx_sha256: Sha256
    bytes: PositiveInt  # of the plan's file
    precision_layers: dict[str, int]  # how many layers run in each precision, as the built engine reports it


class Plan(Fact):
    """What TensorRT built a variant for, a plan per graph of the policy; it loads nowhere else."""

    flavour: Literal["tensorrt", "tensorrt_rtx"]
    version: NonEmpty  # of TensorRT
    gpu: NonEmpty  # as the driver names it
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    graphs: Annotated[tuple[PlannedGraph, ...], Field(min_length=1)]

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(graph.bytes for graph in self.graphs)

    @property
    def largest_batch(self) -> int:
        """The largest that every graph has a profile for."""
        return min(max(min(shape.max[0] for shape in one.values()) for one in graph.profiles) for graph in self.graphs)


class Variant(Fact):
    """One way to serve: a runner of `export/python_backend` and the files that it loads from the version's folder.

    `parameters` go to the runner as they are, in Triton's configuration and in process alike. Precision "fp32" is held to the
    outputs' own tolerances and to equal tokens. Any other is measured: `token_agreement` is the share of tokens that equal the
    original's on the frozen pairs (None where the policy has no tokens or it was not measured yet), `tolerances` what its floats
    may be off, by output.
    """

    name: NonEmpty  # "onnx-cpu-fp32"
    precision: NonEmpty  # "fp32", "bf16", "fp16", "fp8"
    runner: FileName  # without ".py"
    files: Annotated[tuple[FileName, ...], Field(min_length=1)]
    parameters: dict[str, str] = Field(default_factory=dict)
    token_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    tolerances: dict[str, NonNegative] = Field(default_factory=dict)
    plan: Plan | None = None
