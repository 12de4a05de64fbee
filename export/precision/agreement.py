"""How far a lower precision strays from float32 on examples: per output the largest difference, for ids the share that is equal.

Both graphs run in ONNX Runtime on the CPU, node by node as written. It judges nothing; the caller knows what is allowed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.onnx_session import open_session
from export.parity import Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One output. `equal` is the share of equal elements of an integer output, else None; `is_finite`: no NaN, no infinity."""

    tensor: str
    max_abs_difference: float
    equal: float | None
    is_finite: bool


def drift(reference: Path, lowered: Path, inputs: Arrays, *, batch: int = 8) -> tuple[Drift, ...]:
    """One per output of `reference`, in its order. Raises OnnxVersionError."""
    expected, found = answers(reference, inputs, batch=batch), answers(lowered, inputs, batch=batch)
    return tuple(_drift(name, expected[name], found[name]) for name in expected)


def answers(model: Path, inputs: Arrays, *, batch: int) -> Arrays:
    """The graph's answers to all examples, `batch` at a time."""
    session = open_session(model, is_optimised=False)
    names = [output.name for output in session.get_outputs()]
    count = len(next(iter(inputs.values())))
    parts = [
        session.run(names, {name: values[start : start + batch] for name, values in inputs.items()})
        for start in range(0, count, batch)
    ]
    return {name: np.concatenate([part[index] for part in parts]) for index, name in enumerate(names)}


def _drift(name: str, expected: NDArray[np.generic], found: NDArray[np.generic]) -> Drift:
    difference = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    is_whole = np.issubdtype(expected.dtype, np.integer)
    return Drift(
        tensor=name,
        max_abs_difference=float(difference.max(initial=0.0)),
        equal=float(np.mean(expected == found)) if is_whole else None,
        is_finite=bool(np.isfinite(found.astype(np.float64)).all()),
    )
