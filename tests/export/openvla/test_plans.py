"""The runner of OpenVLA's plans decodes as the ONNX one does, on a GPU that is only memory; real plans enter the bundle whole."""

import ctypes
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.bundle import hashes, version_folder
from export.contract.manifest import Manifest, load_manifest
from export.contract.runtime import Plan, PlannedGraph, Variant
from export.golden import load_golden
from export.in_process import BACKEND, Runner, RunnerUnavailable, answers, groups, open_runner, runner_file
from export.publish import revise, serve_variant
from export.python_backend.tensorrt_engine import Gpu
from export.tensorrt.bundle_plan import add_plans
from export.tensorrt.library import EngineError, Flavour
from export.tensorrt.options import PlanOptions
from export.tensorrt.profiles import Axes, Range, profiles
from export.tensorrt.several import SEVERAL
from export.tensorrt.typed_graphs import reference_variant
from export.verify import verify
from tests.export.fake_gpu import FakeCuda, FakeTensorRt, plan_of

pytestmark = pytest.mark.export
H200 = Gpu(name="NVIDIA H200", compute_capability="9.0")
GRAPHS = ("prompt.onnx", "continue.onnx", "act.onnx")
Planned = Callable[..., Runner]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Installed, with a TensorRT on it."""
    cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(cuda))
    return cuda


@pytest.fixture
def planned(repository: Path, tmp_path: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """The runner of a bundle's plans for batches of at most `batch`; `axes` replaces the profiles of its own."""

    def opened(name: str, *, batch: int = 4, axes: dict[str, Range] | None = None, **more: str) -> Runner:
        manifest = load_manifest(repository / name)
        variant = _planned(manifest, version_folder(repository / name, manifest), tmp_path, batch=batch, axes=axes)
        variant = variant.model_copy(update={"parameters": variant.parameters | more})
        _plug_in(monkeypatch)
        return open_runner(BACKEND / "openvla_plans.py", tmp_path, variant)

    return opened


def _planned(manifest: Manifest, served: Path, out: Path, *, batch: int, axes: dict[str, Range] | None = None) -> Variant:
    """Plans that the fake TensorRT opens, written into `out`, and their variant."""
    variant = reference_variant(manifest)
    cases = {} if axes else SEVERAL[variant.runner].cases(variant, _spoken(manifest))
    parameters, graphs = dict(variant.parameters), []
    for file in GRAPHS:
        ranges = {"batch": Range(min=1, opt=1, max=batch)} | (axes or {})
        shapes = profiles(served / file, Axes(ranges=ranges, cases=cases.get(file, ())))
        plan, stem = plan_of(served / file, shapes), file.removesuffix(".onnx")
        (out / f"{stem}.plan").write_bytes(plan)
        facts = {"flavour": "tensorrt", "version": FakeTensorRt.__version__, "gpu": H200.name, "compute_capability": "9.0"}
        digests = {"onnx_sha256": "a" * 64, "plan_sha256": hashlib.sha256(plan).hexdigest(), "name": manifest.policy}
        (out / f"{stem}.plan.json").write_text(json.dumps(facts | digests))
        parameters |= {f"{stem}.plan": f"{stem}.plan", f"{stem}.onnx_sha256": "a" * 64}
        graphs.append(
            PlannedGraph(file=f"{stem}.plan", profiles=shapes, onnx_sha256="a" * 64, bytes=len(plan), precision_layers={})
        )
    return Variant(
        name="tensorrt-fp32-sm90",
        precision="fp32",
        runner="openvla_plans",
        files=tuple(f"{graph.file}{suffix}" for graph in graphs for suffix in ("", ".json")),
        parameters=parameters,
        plan=Plan.model_validate(facts | {"graphs": tuple(graphs)}),
    )


def _plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the machine has an H200."""
    real = ctypes.CDLL
    monkeypatch.setattr("ctypes.CDLL", lambda name, **more: _Driver() if name == "libcuda.so.1" else real(name, **more))


class _Driver:
    """`libcuda.so.1` of a machine with one H200."""

    def cuInit(self, _flags: int) -> int:  # noqa: N802 -- CUDA's names
        return 0

    def cuDeviceGet(self, _device: object, _index: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetName(self, name: "object", _size: int, _device: object) -> int:  # noqa: N802
        name.value = H200.name.encode()  # type: ignore[attr-defined]
        return 0

    def cuDeviceGetAttribute(self, digit: "object", attribute: int, _device: object) -> int:  # noqa: N802
        digit._obj.value = {75: 9, 76: 0}[attribute]  # type: ignore[attr-defined]
        return 0


def _spoken(manifest: Manifest) -> int:
    assert manifest.tokens is not None
    return next(one.shape[0] for one in manifest.outputs if one.tensor == manifest.tokens.tensor)


@pytest.mark.parametrize("name", ["tiny", "odd"])
@pytest.mark.parametrize("size", [1, 4])
def test_the_plans_answer_as_the_graphs_do(name: str, size: int, repository: Path, planned: Planned) -> None:
    manifest, golden = load_manifest(repository / name), load_golden(repository / name)
    rows = groups(16, size)
    chosen = {tensor: values[:16] for tensor, values in golden.inputs.items()}
    found = answers(planned(name), manifest, chosen, rows=rows, tick=lambda: None)
    original = answers(_onnx(repository, name), manifest, chosen, rows=rows, tick=lambda: None)
    for tensor, values in original.items():
        np.testing.assert_array_equal(found[tensor], values, err_msg=tensor)
    np.testing.assert_array_equal(found["action_tokens"], golden.outputs["action_tokens"][:16])


def test_a_shape_that_comes_again_is_replayed(repository: Path, planned: Planned, cuda: FakeCuda) -> None:
    manifest, golden = load_manifest(repository / "tiny"), load_golden(repository / "tiny")
    runner = planned("tiny", cuda_graph="1")
    chosen = {tensor: values[:6] for tensor, values in golden.inputs.items()}
    found = answers(runner, manifest, chosen, rows=groups(6, 2), tick=lambda: None)
    np.testing.assert_array_equal(found["action_tokens"], golden.outputs["action_tokens"][:6])
    assert cuda.launched > 0


def test_sizes_that_the_operator_gives_make_one_profile_for_all(repository: Path, planned: Planned) -> None:
    axes = {"words": Range(min=1, opt=24, max=64), "new": Range(min=1, opt=1, max=300), "earlier": Range(min=1, opt=300, max=320)}
    golden = load_golden(repository / "tiny")
    runner = planned("tiny", axes=axes, batch=2)
    chosen = {tensor: values[:2] for tensor, values in golden.inputs.items()}
    np.testing.assert_array_equal(runner.run(chosen, ["action_tokens"])[0], golden.outputs["action_tokens"][:2])


def test_a_batch_that_no_profile_takes_is_the_callers_error(repository: Path, planned: Planned) -> None:
    golden = load_golden(repository / "tiny")
    runner = planned("tiny", batch=2)
    with pytest.raises(ValueError, match=r"no profile of the plan takes image \(3, "):
        runner.run({tensor: values[:3] for tensor, values in golden.inputs.items()}, ["action"])
    assert ValueError in runner.ERRORS


def test_real_plans_enter_the_bundle_as_one_variant_that_keeps_proving(repository: Path, tmp_path: Path) -> None:
    bundle = _copy_of(repository / "tiny", tmp_path)
    served = load_manifest(bundle).served
    options = PlanOptions(
        precision="fp16",
        flavour=Flavour.RTX,
        capabilities=("8.9",),
        axes={"batch": Range(min=1, opt=1, max=4)},
        least_agreement=0.5,
    )
    added = add_plans(bundle, options, lambda *_: None)
    manifest = load_manifest(bundle)
    (variant,) = added.variants
    assert manifest.variants[-1] == variant
    assert (manifest.served, variant.runner) == (served, "openvla_plans")
    assert variant.parameters["continue.plan"] == "continue.fp16.sm89.plan"
    assert variant.plan is not None
    words = manifest.instruction
    assert words is not None
    prompt, step, act = variant.plan.graphs
    assert [profile["instruction_ids"].max[1] for profile in prompt.profiles] == list(words.buckets)
    places = [profile["embeddings"].max[1] for profile in step.profiles]
    assert places[1::2] == [1] * len(words.buckets)
    assert [new - bucket for new, bucket in zip(places[::2], words.buckets, strict=True)] == [
        int(variant.parameters["patches"])
    ] * len(words.buckets)
    assert len(act.profiles) == 1
    assert verify(bundle)[0].is_close
    facts = json.loads((version_folder(bundle, manifest) / "continue.fp16.sm89.plan.json").read_text())
    assert (facts["name"], facts["onnx_sha256"]) == ("tiny", step.onnx_sha256)


def test_plans_are_served_once_they_are_proven_on_their_gpu(
    repository: Path, tmp_path: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = _copy_of(repository / "odd", tmp_path)
    graphs = version_folder(repository / "odd", load_manifest(bundle))

    def change(fresh: Path) -> Manifest:
        manifest = load_manifest(fresh)
        planned = _planned(manifest, graphs, version_folder(fresh, manifest), batch=64)
        return manifest.model_copy(update={"variants": (*manifest.variants, planned)})

    revise(bundle, change)
    before = hashes(bundle)
    with pytest.raises(RunnerUnavailable, match="no NVIDIA GPU is visible here"):
        serve_variant(bundle, "tensorrt-fp32-sm90")
    assert hashes(bundle) == before

    _plug_in(monkeypatch)
    tokens = next(one for one in serve_variant(bundle, "tensorrt-fp32-sm90") if one.tensor == "action_tokens")
    assert (tokens.share, tokens.examples) == (1.0, 64)
    assert (bundle / "1" / "runner.py").read_bytes() == (BACKEND / "openvla_plans.py").read_bytes()
    assert {"openvla_steps.py", "tensorrt_engine.py"} <= {path.name for path in (bundle / "1").iterdir()}
    config = (bundle / "config.pbtxt").read_text()
    assert "kind: KIND_GPU" in config
    assert "max_batch_size: 64" in config
    assert 'key: "continue.plan"' in config
    assert load_manifest(bundle).served == "tensorrt-fp32-sm90"


def test_a_bundle_from_before_patches_were_told_is_exported_again(repository: Path, tmp_path: Path) -> None:
    variant = reference_variant(load_manifest(repository / "tiny"))
    parameters = {name: value for name, value in variant.parameters.items() if name != "patches"}
    with pytest.raises(EngineError, match="does not say how many patches a picture has: export the policy again"):
        SEVERAL[variant.runner].cases(variant.model_copy(update={"parameters": parameters}), 7)


def _onnx(repository: Path, name: str) -> Runner:
    manifest = load_manifest(repository / name)
    variant = reference_variant(manifest)
    return open_runner(runner_file(variant), version_folder(repository / name, manifest), variant)


def _copy_of(bundle: Path, folder: Path) -> Path:
    return Path(shutil.copytree(bundle, folder / "model_repository" / bundle.name))
