"""Proof that a served variant answers like the original: every output, every example, within what the manifest allows.

Floats stay within their tolerance; whole numbers (tokens, flags) are equal, all of them. A variant of lower precision is measured
by the share of tokens that agree, and its floats only where they do: after another token everything differs. It compares arrays
and knows no runtime: `verify` and `served` bring the answers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.contract.facts import Output
from export.contract.manifest import Manifest
from export.contract.runtime import Variant

Arrays = dict[str, NDArray[np.generic]]
REFERENCE_PRECISION = "fp32"
SHARE_SLACK = 0.02  # in lower precision a batch of another size may run other kernels and turn near ties


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far one output strayed at most, over all examples and batch sizes.

    `share` is that of the values that are equal, None for floats; `needed_share` what it must reach, 0 where it is only
    measured. `examples` is how many were compared.
    """

    tensor: str
    max_abs_difference: float
    atol: float
    examples: int
    share: float | None = None
    needed_share: float = 1.0

    @property
    def is_close(self) -> bool:
        """Whether it is close enough; NaN never is, and nothing that was not compared."""
        if not self.examples:
            return False
        if self.share is not None:
            return self.share >= self.needed_share
        return self.max_abs_difference <= self.atol

    def __str__(self) -> str:
        if not self.examples:
            return f"{self.tensor}: compared on no example, none has the original's tokens"
        if self.share is not None:
            return f"{self.tensor}: {self.share:.2%} equal, needed {self.needed_share:.2%}"
        return f"{self.tensor}: {self.max_abs_difference:.3g} off, allowed {self.atol:.3g}"


class ParityBroken(Exception):  # noqa: N818 -- reads as what happened
    """The variant differs from the original by more than the manifest allows."""

    def __init__(self, agreements: tuple[Agreement, ...]) -> None:
        self.agreements = agreements
        super().__init__(f"differs from the original network: {'; '.join(str(one) for one in agreements if not one.is_close)}")


def measure(found: Arrays, expected: Arrays, manifest: Manifest, variant: Variant) -> tuple[Agreement, ...]:
    """One agreement per output of the manifest; judges nothing."""
    rows = _comparable(found, expected, manifest, variant)
    return tuple(_agreement(found, expected, output, rows, variant) for output in manifest.outputs)


def worst(runs: list[tuple[Agreement, ...]]) -> tuple[Agreement, ...]:
    """Of several runs over the same examples, the worst agreement per output. Raises ParityBroken."""
    agreements = tuple(max(same, key=_badness) for same in zip(*runs, strict=True))
    if not all(one.is_close for one in agreements):
        raise ParityBroken(agreements)
    return agreements


def token_agreement(agreements: tuple[Agreement, ...], manifest: Manifest) -> float | None:
    """The share of equal tokens; None where the policy has none."""
    if manifest.tokens is None:
        return None
    return next(one.share for one in agreements if one.tensor == manifest.tokens.tensor)


def _badness(one: Agreement) -> tuple[bool, float, float]:
    return not one.is_close, -(one.share or 0.0), one.max_abs_difference


def _comparable(found: Arrays, expected: Arrays, manifest: Manifest, variant: Variant) -> NDArray[np.bool_] | None:
    """Which examples' floats are compared: None for all of them."""
    if variant.precision == REFERENCE_PRECISION or manifest.tokens is None:
        return None
    tokens, wanted = found[manifest.tokens.tensor], expected[manifest.tokens.tensor]
    if tokens.shape != wanted.shape:
        return None
    return np.asarray((tokens == wanted).all(axis=1))


def _agreement(found: Arrays, expected: Arrays, output: Output, rows: NDArray[np.bool_] | None, variant: Variant) -> Agreement:
    one, other = found[output.tensor], expected[output.tensor]
    if one.shape != other.shape or one.dtype != other.dtype:
        return Agreement(tensor=output.tensor, max_abs_difference=float("inf"), atol=output.atol, examples=len(other))
    if output.dtype != "float32":
        return _equality(one, other, output, variant)
    if rows is not None:
        one, other = one[rows], other[rows]
    difference = float(np.max(np.abs(one.astype(np.float64) - other.astype(np.float64)), initial=0.0))
    return Agreement(
        tensor=output.tensor,
        max_abs_difference=difference if np.isfinite(difference) else float("inf"),
        atol=variant.tolerances.get(output.tensor, output.atol),
        examples=len(other),
    )


def _equality(one: NDArray[np.generic], other: NDArray[np.generic], output: Output, variant: Variant) -> Agreement:
    is_reference = variant.precision == REFERENCE_PRECISION
    return Agreement(
        tensor=output.tensor,
        max_abs_difference=float(np.max(np.abs(one.astype(np.float64) - other.astype(np.float64)), initial=0.0)),
        atol=output.atol,
        examples=len(other),
        share=float((one == other).mean()) if one.size else 0.0,
        needed_share=1.0 if is_reference else max(0.0, (variant.token_agreement or 0.0) - SHARE_SLACK),
    )
