"""What a config can say, as frozen values. A config that contradicts itself cannot be made: every fault is named at once.

It knows neither protobuf nor manifests; `message` turns it into Triton's own type. What Triton offers and a robot's policy must
not use has no field here: `DELAY` (a late action is worthless), unbounded queues, the response cache (no two pictures are alike).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DTYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "float32": "TYPE_FP32",
}


class ConfigContradiction(ValueError):  # noqa: N818 -- reads as what happened
    """A config that Triton would refuse, or that it would take and serve badly."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


class Backend(StrEnum):
    """What runs the model."""

    PYTHON = "python"
    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"


class Kind(StrEnum):
    """Where an instance runs."""

    CPU = "KIND_CPU"
    GPU = "KIND_GPU"


class WarmupData(StrEnum):
    """What is run before the first request. `FILES` are the raw bytes of one example in `warmup/<tensor>` of the bundle."""

    ZEROS = "zeros"
    FILES = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor on the wire; `shape` is without the batch dimension, −1 is any size."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def faults(self) -> Iterator[str]:
        """What is wrong with it."""
        if self.dtype not in DTYPES:
            yield f"tensor {self.name!r} has type {self.dtype!r}; Triton's wire takes {', '.join(DTYPES)}"
        if not self.shape or any(size == 0 or size < -1 for size in self.shape):
            yield f"tensor {self.name!r} has shape {self.shape}; every size is positive, or -1 for any"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy:
    """How long requests wait, and how many. A request may only lower its timeout, and not even that where the default is 0."""

    timeout_us: int = 5_000_000
    max_size: int = 64
    is_timeout_overridable: bool = True

    def faults(self, where: str) -> Iterator[str]:
        """What is wrong with it."""
        if self.timeout_us < 0 or self.max_size <= 0:
            yield f"{where} needs a bound: max_size above 0 and timeout_us of at least 0"
        if self.timeout_us == 0 and self.is_timeout_overridable:
            yield f"{where} lets callers lower a timeout of 0, which Triton ignores; give it a default timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Priorities:
    """Level 1 is served first. `queues` are the levels with a policy of their own; the others share the default one."""

    levels: int = 2
    default: int = 2
    queues: Mapping[int, QueuePolicy] = field(default_factory=dict)

    def faults(self) -> Iterator[str]:
        """What is wrong with them."""
        if not 1 <= self.default <= self.levels:
            yield f"default priority {self.default} is not among 1..{self.levels}"
        for level, queue in sorted(self.queues.items()):
            if not 1 <= level <= self.levels:
                yield f"priority {level} has a queue policy but is not among 1..{self.levels}"
            yield from queue.faults(f"the queue of priority {level}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How requests are joined. With `delay_us` 0 batches form from what is waiting anyway.

    `queue` None also turns off Triton's own bound and timeouts, for a policy of which only one instance fits.
    """

    delay_us: int = 0
    preferred: tuple[int, ...] = ()
    queue: QueuePolicy | None = QueuePolicy()
    priorities: Priorities | None = Priorities()

    def faults(self, max_batch_size: int) -> Iterator[str]:
        """What is wrong with it."""
        if max_batch_size < 1:
            yield f"dynamic batching needs a max_batch_size of at least 1, not {max_batch_size}"
        if self.delay_us < 0:
            yield f"a queue delay of {self.delay_us} µs"
        if outside := [size for size in self.preferred if not 1 <= size <= max_batch_size]:
            yield f"preferred batch sizes {outside} are not among 1..{max_batch_size}"
        if self.queue is not None:
            yield from self.queue.faults("the default queue")
        if self.priorities is not None:
            yield from self.priorities.faults()

    @property
    def has_queue_policy(self) -> bool:
        """Whether anything here turns off Triton's prefetching (decision 0005)."""
        return self.queue is not None or self.priorities is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """How many run at once: `count` on the CPU, or `count` on each of `gpus`. `profiles` are those of a TensorRT plan."""

    kind: Kind = Kind.CPU
    count: int = 2
    gpus: tuple[int, ...] = ()
    profiles: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """Over all GPUs."""
        return self.count * max(1, len(self.gpus))

    def faults(self) -> Iterator[str]:
        """What is wrong with them."""
        if self.count < 1:
            yield f"{self.count} instances"
        if self.kind is Kind.GPU and not self.gpus:
            yield "instances on GPUs, but no GPU is named"
        if self.kind is Kind.CPU and self.gpus:
            yield f"instances on the CPU, but GPUs {list(self.gpus)} are named"
        if any(number < 0 for number in (*self.gpus, *self.profiles)) or len(set(self.gpus)) != len(self.gpus):
            yield f"GPUs {list(self.gpus)} and profiles {list(self.profiles)} are numbers from 0, each named once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """Runs before the policy counts as ready: `count` times a batch of `batch`."""

    batch: int
    data: WarmupData = WarmupData.ZEROS
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRt:
    """What only a plan has. `plans`: a file per compute capability such as "9.0"; `graph_batches` are captured as CUDA graphs."""

    plans: Mapping[str, str] = field(default_factory=dict)
    graph_batches: tuple[int, ...] = ()
    has_copy_stream: bool = True

    def faults(self, inputs: tuple[Tensor, ...], max_batch_size: int) -> Iterator[str]:
        """What is wrong with it."""
        if odd := [key for key in self.plans if not re.fullmatch(r"\d{1,2}\.\d", key)]:
            yield f"compute capabilities are written like 9.0, not {odd}"
        if outside := [size for size in self.graph_batches if not 1 <= size <= max_batch_size]:
            yield f"CUDA graphs for batches {outside}, which are not among 1..{max_batch_size}"
        if self.graph_batches and (free := [tensor.name for tensor in inputs if -1 in tensor.shape]):
            yield f"a CUDA graph has fixed shapes, but {free} have not"


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonConfig:
    """Everything in the file. Raises ConfigContradiction with every fault.

    Never a queue policy with a single instance: any queue policy turns off Triton's prefetching, and then a request that arrives
    while the only instance hands out its last answer is not noticed for up to 500 ms (seen on 2.51.0, on any kind of device).
    """

    name: str
    versions: tuple[int, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    backend: Backend = Backend.PYTHON
    max_batch_size: int = 16
    batching: Batching | None = Batching()
    instances: Instances = Instances()
    warmups: tuple[Warmup, ...] = ()
    tensorrt: TensorRt | None = None
    metric_tags: Mapping[str, str] = field(default_factory=dict)
    first_response_buckets_ms: tuple[int, ...] = ()  # left out where the server does not know them
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if faults := [*self._own_faults(), *self._faults_of_parts()]:
            raise ConfigContradiction(faults)

    def _own_faults(self) -> Iterator[str]:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            yield f"{self.name!r} is no name for a folder that Triton serves"
        if not self.versions or min(self.versions) < 1:
            yield f"versions {list(self.versions)}: Triton wants at least one, each above 0"
        for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            repeated = [name for name, times in Counter(tensor.name for tensor in tensors).items() if times > 1]
            if repeated or not tensors:
                yield f"{side}: {repeated} repeat" if repeated else f"no {side}"
        if list(self.first_response_buckets_ms) != sorted(set(self.first_response_buckets_ms)):
            yield f"histogram buckets {list(self.first_response_buckets_ms)} do not rise"

    def _faults_of_parts(self) -> Iterator[str]:
        for tensor in (*self.inputs, *self.outputs):
            yield from tensor.faults()
        yield from self.instances.faults()
        if self.batching is not None:
            yield from self.batching.faults(self.max_batch_size)
            if self.batching.has_queue_policy and self.instances.total < 2:
                yield "a queue policy with a single instance stalls for 500 ms; use two, or batching without queue and priorities"
        for warmup in self.warmups:
            if not 1 <= warmup.batch <= max(1, self.max_batch_size) or warmup.count < 1:
                yield f"{warmup.count} warm-up runs of batch {warmup.batch}; max_batch_size is {self.max_batch_size}"
        yield from self._faults_of_tensorrt()

    def _faults_of_tensorrt(self) -> Iterator[str]:
        if self.backend is Backend.TENSORRT and self.instances.kind is not Kind.GPU:
            yield "a TensorRT plan runs on GPUs only"
        if self.backend is not Backend.TENSORRT and (self.tensorrt is not None or self.instances.profiles):
            yield f"plans, profiles and CUDA graphs belong to the tensorrt backend, not to {self.backend.value}"
        if self.tensorrt is not None:
            yield from self.tensorrt.faults(self.inputs, self.max_batch_size)
