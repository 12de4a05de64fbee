"""How numbers of one dataset were scaled for training, and so how the policy's output becomes physical units again.

Facts only: the exporter builds the un-normalisation table of a graph from them, the control plane shows them. It knows no dataset
formats: each family reads its own and fills these in.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NonEmpty = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Fact(BaseModel):
    """A part of the manifest: frozen, nothing unknown, nothing coerced, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Bounds(Fact):
    """[low, high] was mapped onto [−1, 1]: `value = 0.5 * (x + 1) * (high - low + epsilon) + low` where `mask`, else `x`."""

    scheme: Literal["bounds_q99", "bounds"]  # 1st and 99th percentile, or minimum and maximum
    low: tuple[float, ...]
    high: tuple[float, ...]
    mask: tuple[bool, ...]
    epsilon: NonNegative

    @property
    def length(self) -> int:
        """How many numbers it scales."""
        return len(self.low)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not len(self.low) == len(self.high) == len(self.mask):
            raise ValueError(f"low, high and mask differ in length: {len(self.low)}, {len(self.high)}, {len(self.mask)}")
        turned = [index for index, (low, high) in enumerate(zip(self.low, self.high, strict=True)) if low > high]
        if turned:
            names = "q01 above q99" if self.scheme == "bounds_q99" else "minimum above maximum"
            raise ValueError(f"low is above high ({names}) at {turned}")
        return self


class MeanStd(Fact):
    """`x = (value - mean) / (std + epsilon)`, so `value = x * std + mean` where `mask`, else `x` itself."""

    scheme: Literal["mean_std"]
    mean: tuple[float, ...]
    std: tuple[NonNegative, ...]
    mask: tuple[bool, ...] | None = None  # None: everywhere
    epsilon: NonNegative = 0.0

    @property
    def length(self) -> int:
        """How many numbers it scales."""
        return len(self.mean)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(self.mean) != len(self.std) or (self.mask is not None and len(self.mask) != len(self.mean)):
            raise ValueError(f"mean, std and mask differ in length: {len(self.mean)}, {len(self.std)}, {self.mask}")
        return self


Statistics = Annotated[Bounds | MeanStd, Field(discriminator="scheme")]
