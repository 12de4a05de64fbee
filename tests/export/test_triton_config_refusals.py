"""A config that Triton would refuse, or take and serve badly, cannot be made; every fault is named at once."""

from dataclasses import replace
from typing import Any

import pytest

from export.triton_config.config import (
    Backend,
    Batching,
    ConfigContradiction,
    Instances,
    Kind,
    Priorities,
    QueuePolicy,
    Tensor,
    TensorRt,
    TritonConfig,
    Warmup,
)
from export.triton_config.server_version import EMBEDDED, ServerVersion, VersionUnknown
from tests.export.golden_configs import ACTION, IMAGE, python_cpu, tensorrt_gpus

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a timeout of 0 that callers may lower": ({"batching": Batching(queue=QueuePolicy(timeout_us=0))}, "timeout of 0"),
    "a queue without end": ({"batching": Batching(queue=QueuePolicy(max_size=0))}, "needs a bound"),
    "one instance with a queue policy": ({"instances": Instances(count=1)}, "stalls for 500 ms"),
    "one instance with priorities only": (
        {"instances": Instances(count=1), "batching": Batching(queue=None)},
        "stalls for 500 ms",
    ),
    "GPUs without a GPU": ({"instances": Instances(kind=Kind.GPU)}, "no GPU is named"),
    "a CPU with GPUs": ({"instances": Instances(gpus=(0,))}, "GPUs \\[0\\] are named"),
    "the same GPU twice": ({"instances": Instances(kind=Kind.GPU, gpus=(0, 0))}, "each named once"),
    "no instance": ({"instances": Instances(count=0)}, "0 instances"),
    "a warm-up that does not fit": ({"warmups": (Warmup(batch=17),)}, "batch 17; max_batch_size is 16"),
    "a preferred size that does not fit": ({"batching": Batching(preferred=(4, 32))}, "\\[32\\] are not among 1..16"),
    "batching without batches": ({"max_batch_size": 0, "warmups": ()}, "at least 1, not 0"),
    "a default priority that is none": ({"batching": Batching(priorities=Priorities(default=3))}, "default priority 3"),
    "a queue for no priority": (
        {"batching": Batching(priorities=Priorities(queues={5: QueuePolicy()}))},
        "priority 5 has a queue policy",
    ),
    "a priority's queue without end": (
        {"batching": Batching(priorities=Priorities(queues={1: QueuePolicy(max_size=0)}))},
        "the queue of priority 1 needs a bound",
    ),
    "a plan for the Python backend": ({"tensorrt": TensorRt()}, "not to python"),
    "a plan on the CPU": ({"backend": Backend.TENSORRT}, "runs on GPUs only"),
    "a tensor twice": ({"inputs": (IMAGE, IMAGE)}, "'image'\\] repeat"),
    "no outputs": ({"outputs": ()}, "no outputs"),
    "an unknown type": ({"outputs": (Tensor(name="a", dtype="fp8", shape=(1,)),)}, "has type 'fp8'"),
    "a size of nothing": ({"outputs": (Tensor(name="a", dtype="int64", shape=(0,)),)}, "has shape \\(0,\\)"),
    "no version": ({"versions": ()}, "at least one"),
    "a name that is a path": ({"name": "../other"}, "no name for a folder"),
    "buckets that fall": ({"first_response_buckets_ms": (50, 20)}, "do not rise"),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_contradiction_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigContradiction, match=reason):
        replace(python_cpu("policy"), **changes)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (TensorRt(plans={"sm90": "a.plan"}), "written like 9.0"),
        (TensorRt(graph_batches=(16,)), "\\[16\\], which are not among 1..8"),
    ],
)
def test_a_plan_that_cannot_be_found_or_captured_is_refused(plan: TensorRt, reason: str) -> None:
    with pytest.raises(ConfigContradiction, match=reason):
        replace(tensorrt_gpus("policy"), tensorrt=plan)


def test_a_graph_cannot_be_captured_for_any_shape() -> None:
    free = (IMAGE, Tensor(name="ids", dtype="int64", shape=(-1,)))
    with pytest.raises(ConfigContradiction, match="'ids'"):
        replace(tensorrt_gpus("policy"), inputs=free)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigContradiction) as refused:
        TritonConfig(name="", versions=(0,), inputs=(), outputs=(ACTION,))
    assert len(refused.value.faults) == 3


def test_one_instance_without_any_queue_policy_is_allowed() -> None:
    replace(python_cpu("policy"), instances=Instances(count=1), batching=Batching(queue=None, priorities=None))


def test_a_timeout_of_0_that_nobody_may_lower_is_allowed() -> None:
    replace(python_cpu("policy"), batching=Batching(queue=QueuePolicy(timeout_us=0, is_timeout_overridable=False)))


def test_versions_compare_as_numbers() -> None:
    assert ServerVersion.parse("2.9") < EMBEDDED < ServerVersion.parse("2.65.0")
    assert str(ServerVersion.parse("2.51")) == "2.51.0"


@pytest.mark.parametrize("text", ["26.01", "v2.51.0", "2", "two", "", "2.51.0-dev", "3.1.0"])
def test_a_container_tag_is_no_server_version(text: str) -> None:
    with pytest.raises(VersionUnknown, match="no Triton version"):
        ServerVersion.parse(text)
