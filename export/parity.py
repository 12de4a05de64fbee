"""Proof that the exported graph answers like the original: every output, every example, within the manifest's tolerance.

Raises rather than warns. It compares arrays and knows no runtime: `verify` and `served` bring the answers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.contract.facts import Output

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far one output strayed at most, over all examples and batch sizes."""

    tensor: str
    max_abs_difference: float
    atol: float

    @property
    def is_close(self) -> bool:
        """Whether it is within the tolerance; NaN never is."""
        return self.max_abs_difference <= self.atol


class ParityBroken(Exception):  # noqa: N818 -- reads as what happened
    """The graph differs from the original by more than the manifest allows."""

    def __init__(self, agreements: tuple[Agreement, ...]) -> None:
        self.agreements = agreements
        broken = [f"{one.tensor}: {one.max_abs_difference:.3g} > {one.atol:.3g}" for one in agreements if not one.is_close]
        super().__init__("; ".join(broken))


def compare(found: Arrays, expected: Arrays, outputs: tuple[Output, ...]) -> tuple[Agreement, ...]:
    """One agreement per output. Raises ParityBroken if any is too far off, has another shape or is not finite."""
    agreements = tuple(
        Agreement(tensor=one.tensor, max_abs_difference=_difference(found[one.tensor], expected[one.tensor]), atol=one.atol)
        for one in outputs
    )
    if not all(one.is_close for one in agreements):
        raise ParityBroken(agreements)
    return agreements


def _difference(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    if found.shape != expected.shape:
        return float("inf")
    difference = float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64))))
    return difference if np.isfinite(difference) else float("inf")
