"""Plans enter a bundle whole or not at all, with everything that a runner needs to refuse them elsewhere."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.__main__ import app
from export.bundle import hashes
from export.contract.manifest import load_manifest
from export.golden import load_golden
from export.in_process import RunnerUnavailable
from export.parity import Agreement
from export.publish import serve_variant
from export.python_backend.tensorrt_engine import Gpu, Made, why_not
from export.tensorrt.bundle_plan import add_plans, write_plans
from export.tensorrt.library import EngineError, Flavour
from export.tensorrt.options import PlanOptions
from export.tensorrt.typed_graphs import refuse_strayed
from export.triton_config.of_manifest import config_of
from export.verify import verify
from tests.export.contracts import manifest, speaking

pytestmark = pytest.mark.export
BUNDLE = Path("model_repository/tabletop")
BF16 = PlanOptions(precision="bf16", flavour=Flavour.RTX, capabilities=("8.9",))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "model_repository" / "tabletop"))


def test_a_plan_is_added_with_its_facts_and_the_bundle_still_proves(bundle: Path) -> None:
    before = load_manifest(bundle)
    added = add_plans(bundle, BF16, lambda *_: None)
    manifest = load_manifest(bundle)
    variant = next(one for one in manifest.variants if one.name == "tensorrt-rtx-bf16-sm89")
    plan = variant.plan
    assert plan is not None
    content = (bundle / "1" / "model.bf16.sm89.plan").read_bytes()
    assert (plan.flavour, plan.gpu, plan.compute_capability, plan.bytes) == ("tensorrt_rtx", "none", "8.9", len(content))
    (graph,) = plan.graphs
    assert graph.profiles[0]["image"].max == (16, 128, 128, 3)
    assert graph.precision_layers["products.bf16"] == 21
    assert variant.tolerances["action"] >= 2 * added.agreements[0].max_abs_difference > 0
    assert (manifest.served, manifest.variants[: len(before.variants)]) == (before.served, before.variants)
    assert verify(bundle)[0].is_close

    made = Made.read(bundle / "1" / "model.bf16.sm89.plan")
    assert made.plan_sha256 == hashlib.sha256(content).hexdigest()
    assert made.onnx_sha256 == variant.parameters["onnx_sha256"] == graph.onnx_sha256
    ada = Gpu(name="NVIDIA RTX 4090", compute_capability="8.9")
    assert why_not(made, flavour="tensorrt_rtx", version=plan.version, gpu=ada, onnx_sha256=graph.onnx_sha256) is None


def test_a_rebuilt_plan_takes_the_place_of_the_old_one(bundle: Path) -> None:
    for _ in range(2):
        add_plans(bundle, BF16, lambda *_: None)
    names = [variant.name for variant in load_manifest(bundle).variants]
    assert names.count("tensorrt-rtx-bf16-sm89") == 1
    assert verify(bundle)[0].is_close


def test_tritons_own_backend_finds_each_plan_by_the_gpus_capability(bundle: Path) -> None:
    # TensorRT itself cannot be installed here; what the config needs of a variant is the same.
    native = PlanOptions(precision="bf16", flavour=Flavour.RTX, capabilities=("8.9", "12.0"), is_native=True)
    added = add_plans(bundle, native, lambda *_: None)
    # Its proof is that of our own runner, with the same file: here it is refused for want of a GPU, and for nothing else.
    with pytest.raises(RunnerUnavailable, match="no NVIDIA GPU is visible here"):
        serve_variant(bundle, added.variants[0].name)
    manifest = load_manifest(bundle).model_copy(update={"served": added.variants[0].name})
    text = config_of(manifest).text()
    for capability, file in (("8.9", "model.bf16.sm89.plan"), ("12.0", "model.bf16.sm120.plan")):
        assert f'key: "{capability}" value: "{file}"' in text or f'key: "{capability}"\n    value: "{file}"' in text, text


def test_a_failed_build_leaves_nothing(bundle: Path) -> None:
    before = hashes(bundle)
    narrow = PlanOptions(precision="bf16", flavour=Flavour.RTX, capabilities=("8.9", "12.0"), max_size_ratio=1.0, keep=("*",))
    with pytest.raises(Exception, match="no product can be bf16"):
        add_plans(bundle, narrow, lambda *_: None)
    assert hashes(bundle) == before
    assert [path.name for path in bundle.parent.parent.iterdir()] == ["model_repository"]
    assert [path.name for path in bundle.parent.iterdir()] == ["tabletop"]


def test_plans_go_to_an_empty_folder_only(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "plans"
    write_plans(bundle, BF16, out, lambda *_: None)
    assert sorted(path.name for path in out.iterdir()) == ["model.bf16.sm89.plan", "model.bf16.sm89.plan.json"]
    facts = json.loads((out / "model.bf16.sm89.plan.json").read_text())
    assert (facts["name"], facts["compute_capability"]) == ("tabletop", "8.9")
    with pytest.raises(EngineError, match="is not empty: give a new folder"):
        write_plans(bundle, BF16, out, lambda *_: None)
    assert hashes(bundle) == hashes(BUNDLE)


def test_answers_that_stray_too_far_are_refused() -> None:
    manifest = load_manifest(BUNDLE)
    nan = Agreement(tensor="action", max_abs_difference=float("inf"), atol=1e-4, examples=load_golden(BUNDLE).count)
    with pytest.raises(EngineError, match="output action is not finite in this precision"):
        refuse_strayed(manifest, (nan,), 0.9)


@pytest.mark.parametrize(("least", "reason"), [(0.5, "no golden example has all its"), (float("nan"), "are asked for")])
def test_what_was_compared_on_no_example_is_refused(least: float, reason: str) -> None:
    speaks = manifest(speaking())
    tokens = Agreement(tensor="tokens", max_abs_difference=9.0, atol=0.0, examples=64, share=0.8, needed_share=0.0)
    action = Agreement(tensor="action", max_abs_difference=0.0, atol=1e-5, examples=0)
    with pytest.raises(EngineError, match=reason):
        refuse_strayed(speaks, (action, tokens), least)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--target", "rtx"], "no NVIDIA GPU is visible here"),
        (["--target", "rtx", "--compute-capability", "9.0"], "has no compute capability 9.0"),
        (["--target", "rtx", "--gpu", "--compute-capability", "8.9"], "give one of them"),
        (["--target", "rtx", "--compute-capability", "8.9", "--batch", "4:2:1"], "MIN ≤ OPT ≤ MAX"),
        (["--target", "rtx", "--compute-capability", "8.9", "--native"], "does not load plans of TensorRT-RTX"),
        ([], "tensorrt is not installed here"),
    ],
)
def test_the_command_refuses_in_one_line(bundle: Path, words: list[str], reason: str) -> None:
    result = CliRunner().invoke(app, ["build-engine", "tabletop", "--repository", str(bundle.parent), *words])
    assert result.exit_code == 1
    assert reason in result.stdout
    assert result.stdout.count("\n") == 1


def test_the_command_builds_and_shows_what_it_built(bundle: Path) -> None:
    words = ["build-engine", "tabletop", "--repository", str(bundle.parent), "--target", "rtx", "--compute-capability", "8.9"]
    result = CliRunner().invoke(app, [*words, "--precision", "fp16", "--batch", "1:2:4"])
    assert result.exit_code == 0, result.stdout
    assert "action played in fp16: differs by at most" in result.stdout
    assert "model.fp16.sm89.plan: " in result.stdout
    assert f"built into {bundle}" in result.stdout
    assert "21 products.fp16" in result.stdout
