"""The config that Triton gets: its text is a golden file, its meaning is read back with Triton's own message type."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.contract.manifest import Manifest, load_manifest
from export.contract.runtime import Plan, PlannedGraph, ShapeRange, Variant
from export.triton_config import config_of
from export.triton_config.config import ConfigContradiction, WarmupData
from export.triton_config.of_manifest import Deployment
from export.triton_config.server_version import ServerVersion
from tests.export import golden_configs

BUNDLE = Path("model_repository/tabletop")
MANIFEST = load_manifest(BUNDLE)


@pytest.fixture
def read_back() -> model_config_pb2.ModelConfig:
    return _parsed(config_of(MANIFEST).text())


def _parsed(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def _planned(*capabilities: str, runner: str = "tensorrt_plan") -> Manifest:
    """The shipped policy as if it had a plan per GPU, served by the first."""
    shapes = {"image": ShapeRange(min=(1, 128, 128, 3), opt=(4, 128, 128, 3), max=(8, 128, 128, 3))}
    variants = tuple(
        Variant(
            name=f"tensorrt-sm{capability}",
            precision="bf16",
            runner=runner,
            files=(f"model_sm{capability}.plan",),
            plan=Plan(
                flavour="tensorrt",
                version="11.1.0",
                gpu="a GPU",
                compute_capability=capability,
                graphs=(
                    PlannedGraph(
                        file=f"model_sm{capability}.plan",
                        profiles=(shapes,),
                        onnx_sha256="0" * 64,
                        bytes=1,
                        precision_layers={"bf16": 1},
                    ),
                ),
            ),
        )
        for capability in capabilities
    )
    return MANIFEST.model_copy(update={"variants": variants, "served": variants[0].name})


@pytest.mark.parametrize("name", golden_configs.FILES)
def test_the_golden_files_are_what_is_written(name: str) -> None:
    assert (golden_configs.FOLDER / f"{name}.pbtxt").read_text() == golden_configs.FILES[name].text()


@pytest.mark.parametrize("name", golden_configs.FILES)
def test_triton_reads_what_was_meant(name: str) -> None:
    assert _parsed((golden_configs.FOLDER / f"{name}.pbtxt").read_text()) == golden_configs.FILES[name].message()


def test_no_line_is_wider_than_a_screen() -> None:
    assert max(len(line) for file in golden_configs.FILES.values() for line in file.text().splitlines()) <= 130


def test_the_committed_config_is_the_one_that_is_written() -> None:
    assert (BUNDLE / "config.pbtxt").read_text() == config_of(MANIFEST).text()


def test_inputs_and_outputs_are_those_of_the_manifest(read_back: model_config_pb2.ModelConfig) -> None:
    assert [(tensor.name, list(tensor.dims)) for tensor in read_back.input] == [
        ("image", [128, 128, 3]),
        ("instruction_ids", [24]),
        ("state", [8]),
        ("state_mask", [1]),
    ]
    assert [(tensor.name, list(tensor.dims)) for tensor in read_back.output] == [("action", [8, 7])]


def test_late_requests_are_refused_and_a_caller_may_ask_for_less_time(read_back: model_config_pb2.ModelConfig) -> None:
    policy = read_back.dynamic_batching.default_queue_policy
    assert policy.timeout_action == policy.REJECT
    assert policy.default_timeout_microseconds > 0  # with 0 Triton ignores what the caller asks for
    assert policy.allow_timeout_override
    assert policy.max_queue_size > 0


def test_batching_waits_at_most_two_milliseconds(read_back: model_config_pb2.ModelConfig) -> None:
    assert 0 <= read_back.dynamic_batching.max_queue_delay_microseconds <= 2000
    assert read_back.max_batch_size > 1


def test_a_queue_policy_never_comes_with_a_single_instance(read_back: model_config_pb2.ModelConfig) -> None:
    assert sum(group.count for group in read_back.instance_group) >= 2


def test_every_input_is_warmed_up(read_back: model_config_pb2.ModelConfig) -> None:
    names = {tensor.name for tensor in read_back.input}
    assert [set(sample.inputs) for sample in read_back.model_warmup] == [names, names]


def test_the_oldest_server_gets_no_field_that_stops_it_and_the_newest_gets_its_histogram() -> None:
    oldest, newest = (
        _parsed(config_of(MANIFEST, Deployment(server=version)).text())
        for version in (ServerVersion(2, 64), ServerVersion(2, 65))
    )
    assert not oldest.HasField("model_metrics")
    (control,) = newest.model_metrics.metric_control
    assert {200, 500} <= set(control.histogram_options.buckets)


def test_a_policy_that_fits_only_once_gets_no_queue_policy_that_would_stall_it() -> None:
    batching = config_of(MANIFEST, Deployment(instances=1)).message().dynamic_batching
    assert not batching.HasField("default_queue_policy")
    assert not batching.priority_levels


def test_a_plan_is_served_by_triton_itself_with_a_file_per_kind_of_gpu() -> None:
    found = config_of(_planned("9.0", "8.9"), Deployment(gpus=(0, 1))).message()
    assert found.platform == "tensorrt_plan"
    assert dict(found.cc_model_filenames) == {"9.0": "model_sm9.0.plan", "8.9": "model_sm8.9.plan"}
    assert found.max_batch_size == 8  # the profile's
    assert [spec.batch_size for spec in found.optimization.cuda.graph_spec] == [1, 2, 4, 8]
    assert list(found.instance_group[0].gpus) == [0, 1]


def test_a_runner_that_owns_its_plan_is_a_python_model_on_a_gpu() -> None:
    found = config_of(_planned("9.0", runner="tensorrt_engine")).message()
    assert found.backend == "python"
    assert not found.cc_model_filenames
    assert found.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_a_plan_that_does_not_fit_twice_runs_once_and_has_no_queue_policy_that_would_stall_it() -> None:
    light = _planned("9.0", runner="tensorrt_engine")
    variant = light.served_variant
    assert variant.plan is not None
    (graph,) = variant.plan.graphs
    plan = variant.plan.model_copy(update={"graphs": (graph.model_copy(update={"bytes": 15_000_000_000}),)})
    heavy = light.model_copy(update={"variants": (variant.model_copy(update={"plan": plan}),)})
    assert config_of(light).message().instance_group[0].count == 2
    found = config_of(heavy).message()
    assert found.instance_group[0].count == 1
    assert not found.dynamic_batching.HasField("default_queue_policy")
    assert config_of(heavy, Deployment(instances=2)).message().instance_group[0].count == 2


def test_a_graph_that_asks_for_cuda_gets_a_gpu() -> None:
    variant = Variant(name="cuda", precision="fp32", runner="onnx_graph", files=("model.onnx",), parameters={"provider": "cuda"})
    found = config_of(MANIFEST.model_copy(update={"variants": (variant,), "served": "cuda"})).message()
    assert found.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert found.parameters["provider"].string_value == "cuda"


def test_a_runner_that_prepares_batches_is_never_given_a_larger_one() -> None:
    variant = Variant(name="torch", precision="bf16", runner="torch_decode", files=("a.pt2",), parameters={"batches": "1,2"})
    found = config_of(MANIFEST.model_copy(update={"variants": (variant,), "served": "torch"})).message()
    assert found.max_batch_size == 2
    assert [warmup.batch_size for warmup in found.model_warmup] == [1]


def test_a_real_example_can_warm_up() -> None:
    (first, _) = config_of(MANIFEST, Deployment(warmup=WarmupData.FILES)).message().model_warmup
    assert {value.input_data_file for value in first.inputs.values()} == set(first.inputs)


def test_a_plan_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ConfigContradiction, match="numbers from 0"):
        config_of(_planned("9.0"), Deployment(gpus=(-1,)))
