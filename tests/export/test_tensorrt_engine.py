"""A plan of another TensorRT, GPU or graph is refused before it is loaded, in one line that says what to run."""

import json
from pathlib import Path

import pytest

from export.python_backend.tensorrt_engine import Gpu, Made, PlanRefused, Runner, visible_gpu, why_not

H200 = Gpu(name="NVIDIA H200", compute_capability="9.0")
FACTS = {
    "flavour": "tensorrt",
    "version": "11.1.0.106",
    "gpu": "NVIDIA H200",
    "compute_capability": "9.0",
    "onnx_sha256": "a" * 64,
    "plan_sha256": "b" * 64,
    "name": "openvla-7b",
}
MADE = Made(**FACTS)


def refusal(
    *, made: Made = MADE, flavour: str = "tensorrt", version: str = "11.1.0.106", gpu: Gpu | None = H200, graph: str | None = None
) -> str | None:
    return why_not(made, flavour=flavour, version=version, gpu=gpu, onnx_sha256=graph)


def test_a_plan_runs_where_it_was_built() -> None:
    assert refusal() is None
    assert refusal(graph="a" * 64) is None


@pytest.mark.parametrize(
    ("version", "gpu", "here"),
    [
        ("11.4.1.2", H200, "this is TensorRT 11.4.1.2 on NVIDIA H200 (9.0)"),
        ("11.1.0.106", Gpu(name="NVIDIA L4", compute_capability="8.9"), "this is TensorRT 11.1.0.106 on NVIDIA L4 (8.9)"),
        # Same architecture, other memory: kernels were chosen for what the first one had.
        ("11.1.0.106", Gpu(name="NVIDIA H100 PCIe", compute_capability="9.0"), "on NVIDIA H100 PCIe (9.0)"),
    ],
    ids=["version", "architecture", "card"],
)
def test_a_plan_from_elsewhere_says_from_where_and_what_to_do(version: str, gpu: Gpu, here: str) -> None:
    told = refusal(version=version, gpu=gpu)
    assert told is not None
    assert told.startswith("plan built by TensorRT 11.1.0.106 for NVIDIA H200 (9.0), this is ")
    assert here in told
    assert told.endswith("run `vlaapi export build-engine openvla-7b` on this machine")
    assert "\n" not in told


def test_plans_of_tensorrt_and_rtx_are_nothing_to_each_other() -> None:
    told = refusal(flavour="tensorrt_rtx")
    assert told is not None
    assert "this is TensorRT-RTX 11.1.0.106" in told


def test_a_plan_for_a_capability_runs_on_every_card_that_has_it() -> None:
    made = Made(**(FACTS | {"flavour": "tensorrt_rtx", "version": "1.7.1.116", "gpu": "none", "compute_capability": "8.9"}))
    here = Gpu(name="NVIDIA GeForce RTX 4090", compute_capability="8.9")
    assert refusal(made=made, flavour="tensorrt_rtx", version="1.7.1.116", gpu=here) is None
    told = refusal(made=made, flavour="tensorrt_rtx", version="1.7.1.116", gpu=H200)
    assert told is not None
    assert "plan built by TensorRT-RTX 1.7.1.116 for compute capability 8.9, this is" in told


def test_without_a_gpu_the_plan_is_refused() -> None:
    told = refusal(gpu=None)
    assert told is not None
    assert "no NVIDIA GPU is visible here" in told


def test_a_plan_from_another_graph_is_refused() -> None:
    told = refusal(graph="c" * 64)
    assert told is not None
    assert "plan built from another graph (aaaaaaaaaaaa…, the bundle's is cccccccccccc…)" in told


@pytest.mark.parametrize("content", [None, "", "[]", "{}", json.dumps({"flavour": "tensorrt"})])
def test_a_plan_whose_facts_are_missing_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "model.plan.json").write_text(content)
    with pytest.raises(PlanRefused, match=r"^model\.plan\.json: \w+: a plan needs it beside itself"):
        Runner(tmp_path, {"plan": "model.plan"})


def test_a_missing_library_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.plan.json").write_text(json.dumps(FACTS | {"flavour": "tensorrt_of_tomorrow"}))
    with pytest.raises(PlanRefused, match="is not installed here: use the image that the plan was built in"):
        Runner(tmp_path, {"plan": "model.plan"})


@pytest.mark.gpu
def test_the_driver_names_its_gpu() -> None:
    found = visible_gpu()
    assert found is not None
    assert found.name.startswith("NVIDIA")
    assert [part.isdecimal() for part in found.compute_capability.split(".")] == [True, True]
