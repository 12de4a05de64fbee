"""OpenVLA's three graphs become TensorRT plans, and in bfloat16 the policy still chooses nearly all of its tokens."""

from pathlib import Path

import pytest

from export.contract.manifest import load_manifest
from export.precision.rewrite import Precision
from export.precision.steps import PrecisionError
from export.tensorrt.bundle_plan import add_plans
from export.tensorrt.library import EngineError, Flavour
from export.tensorrt.options import PlanOptions
from export.tensorrt.profiles import Range
from tests.export.tensorrt.building import build_plans, plan_of

pytestmark = pytest.mark.export
AXES = {"new": Range(min=1, opt=1, max=300), "earlier": Range(min=1, opt=300, max=320)}


def test_every_graph_builds_and_the_tokens_hold(repository: Path, tmp_path: Path) -> None:
    added = build_plans(repository / "tiny", tmp_path / "plans", Precision.BF16, AXES)
    plans = [f"{name}.bf16.sm89.plan" for name in ("prompt", "continue", "act")]
    assert [variant.files[0] for variant in added.variants] == plans
    words = load_manifest(repository / "tiny").instruction
    assert words is not None
    assert [profile["instruction_ids"].max[1] for profile in plan_of(added, 0).profiles] == list(words.buckets)
    # Only the logits' product stays float32: keys and values for the next token are no answer.
    assert plan_of(added, 1).precision_layers["products.fp32"] == 1
    tokens = next(one for one in added.agreements if one.tensor == "action_tokens")
    assert tokens.share is not None
    assert tokens.share > 0.8  # random weights: many near ties


def test_eight_bits_need_examples_that_pass_between_graphs(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match=r"^continue\.onnx: embeddings comes from another graph.*use bf16"):
        build_plans(repository / "tiny", tmp_path / "plans", Precision.FP8, AXES)
    assert not (tmp_path / "plans").exists()


def test_several_plans_do_not_enter_a_bundle_whose_runner_knows_none(repository: Path) -> None:
    options = PlanOptions(precision="bf16", flavour=Flavour.RTX, capabilities=("8.9",), axes=AXES, least_agreement=0.0)
    with pytest.raises(EngineError, match="tiny runs 3 graphs: build their plans into a folder with --out"):
        add_plans(repository / "tiny", options, lambda *_: None)
