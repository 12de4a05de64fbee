"""What counts as the same answer."""

import numpy as np
import pytest

from export.contract.facts import Output
from export.parity import ParityBroken, compare

OUTPUTS = (Output(tensor="action", dtype="float32", shape=(2,), atol=1e-3),)


def _one(*values: float) -> dict[str, np.ndarray]:
    return {"action": np.array([values], dtype=np.float32)}


def test_a_small_difference_is_reported_and_allowed() -> None:
    (found,) = compare(_one(1.0, 2.0005), _one(1.0, 2.0), OUTPUTS)
    assert found.tensor == "action"
    assert found.max_abs_difference == pytest.approx(5e-4, rel=1e-2)
    assert found.is_close


@pytest.mark.parametrize("found", [_one(1.0, 2.01), _one(1.0, float("nan")), _one(1.0, float("inf")), _one(1.0)])
def test_too_far_not_finite_or_another_shape_is_refused(found: dict[str, np.ndarray]) -> None:
    with pytest.raises(ParityBroken, match="action"):
        compare(found, _one(1.0, 2.0), OUTPUTS)
