"""OpenVLA's three graphs become TensorRT plans, and in bfloat16 the policy still chooses nearly all of its tokens."""

from pathlib import Path

import pytest

from export.precision.rewrite import Precision
from tests.export.tensorrt.building import build_plans, plan_of, plans_of

pytestmark = pytest.mark.export


def test_every_graph_builds_and_the_tokens_hold(repository: Path, tmp_path: Path) -> None:
    added = build_plans(repository / "tiny", tmp_path / "plans", Precision.BF16)
    plans = [f"{name}.bf16.sm89.plan" for name in ("prompt", "continue", "act")]
    assert [graph.file for graph in plans_of(added)] == plans
    # Only the logits' product stays float32: keys and values for the next token are no answer.
    assert plan_of(added, 1).precision_layers["products.fp32"] == 1
    tokens = next(one for one in added.agreements if one.tensor == "action_tokens")
    assert tokens.share is not None
    assert tokens.share > 0.8  # random weights: many near ties


def test_eight_bits_are_measured_on_what_passes_between_the_graphs(repository: Path, tmp_path: Path) -> None:
    added = build_plans(repository / "tiny", tmp_path / "plans", Precision.FP8)
    # The builder has already refused a graph without 8-bit products; the parsed network gives their results in bf16.
    assert plan_of(added, 1).precision_layers["products.bf16"] > 10
    share = next(one.share for one in added.agreements if one.tensor == "action_tokens")
    assert share is not None
    assert 0.3 < share < 1.0  # random weights: 8 bits turn many near ties, and some must turn or nothing was lowered
