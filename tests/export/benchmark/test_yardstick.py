"""The yardstick runs the bundle's own graph and a fixed computation that is the same everywhere."""

from pathlib import Path

import numpy as np
import pytest

from export.benchmark.reference import LAYERS, ROWS, WIDTH, reference
from export.benchmark.yardstick import TURN, Yardstick
from export.contract.manifest import load_manifest
from export.golden import load_golden

pytestmark = pytest.mark.export
BUNDLE = Path("model_repository/tabletop")


def test_both_are_timed_by_turns() -> None:
    yardstick = Yardstick(BUNDLE, load_manifest(BUNDLE), load_golden(BUNDLE).inputs)
    yardstick.sample()
    found = yardstick.found()
    assert found.runs >= TURN
    assert found.runs % TURN == 0
    assert 0 < found.p10_us <= found.p50_us <= found.p99_us
    assert found.reference_p10_us > 0


def test_the_reference_computes_what_recorded_baselines_were_divided_by() -> None:
    (out,) = reference()()
    random = np.random.default_rng(37)
    wanted = np.random.default_rng(31).standard_normal((ROWS, WIDTH), dtype=np.float32)
    for _ in range(LAYERS):
        wanted = np.maximum(wanted @ (random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)), 0)
    np.testing.assert_allclose(out, wanted, atol=1e-3)
