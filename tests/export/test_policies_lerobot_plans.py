"""The published graphs of ACT and SmolVLA become TensorRT plans: typed, played against their golden vectors, parsed and built."""

from pathlib import Path

import pytest

from export.precision.rewrite import Precision
from tests.export.tensorrt.building import build_plans, plan_of, stored

pytestmark = pytest.mark.export


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16])
def test_act_builds(act_bundle: Path, precision: Precision, tmp_path: Path) -> None:
    added = build_plans(act_bundle, tmp_path / "plans", precision)
    assert plan_of(added).precision_layers[f"products.{stored(precision)}"] > 50
    assert all(one.max_abs_difference < 0.1 for one in added.agreements)


def test_smolvla_builds(smolvla_bundle: Path, tmp_path: Path) -> None:
    added = build_plans(smolvla_bundle, tmp_path / "plans", Precision.BF16)
    assert plan_of(added).precision_layers["products.bf16"] > 50
    assert all(one.max_abs_difference < 0.1 for one in added.agreements)
