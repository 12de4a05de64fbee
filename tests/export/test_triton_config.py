"""The config that Triton gets: its text is a golden file, its meaning is read back with Triton's own message type."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.contract.manifest import load_manifest
from export.triton_config import config_of

BUNDLE = Path("model_repository/tabletop")


@pytest.fixture
def read_back() -> model_config_pb2.ModelConfig:
    text = config_of(load_manifest(BUNDLE)).text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_committed_config_is_the_one_that_is_written() -> None:
    assert (BUNDLE / "config.pbtxt").read_text() == config_of(load_manifest(BUNDLE)).text()


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
