"""The `config.pbtxt` of a served policy, written from its manifest: explicit, so that Triton completes nothing by itself.

Text is written by hand in one fixed order, so a change shows as a readable diff (golden file). It loads on Triton 2.51.0 and
later. It knows no network and no GPU; whoever adds a runtime adds a backend here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from export.contract import wire
from export.contract.manifest import Manifest

_TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor on the wire; `shape` is without the batch dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def fields(self) -> str:
        """As one line of a config."""
        return f'name: "{self.name}" data_type: {_TYPES[self.dtype]} {_dims(self.shape)}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """How long requests wait. Triton lets a request lower its timeout, never raise it, and ignores it where the default is 0.

    `delay_us` 0: batches form from what is waiting anyway. On a CPU a run of four costs four runs, so waiting gains nothing.
    """

    delay_us: int = 0
    timeout_us: int = 5_000_000
    max_size: int = 64
    priority_levels: int = 2  # 1 is served first
    default_priority: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonConfig:
    """Everything in the file. `threads` is ONNX Runtime's per instance.

    Never fewer than two instances: any queue policy turns off Triton's prefetching, and then a request that arrives while the
    only instance is handing out its last answer is not noticed for up to 500 ms (seen on 2.51.0, and in the source of 2026-06).
    """

    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int = 16
    instances: int = 2
    threads: int = 1
    queue: Queue = Queue()
    warmup_batches: tuple[int, ...] = (1, 4)
    parameters: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The file's text."""
        return "\n".join(_lines(self)) + "\n"


def inputs_of(manifest: Manifest) -> tuple[Tensor, ...]:
    """The tensors that a request must hold, in the order of the graph's inputs."""
    return tuple(Tensor(name=one.name, dtype=one.dtype, shape=one.shape) for one in wire.inputs_of(manifest))


def config_of(manifest: Manifest) -> TritonConfig:
    """The config that serves this manifest's policy."""
    return TritonConfig(
        name=manifest.policy,
        version=manifest.version,
        inputs=inputs_of(manifest),
        outputs=tuple(Tensor(name=output.tensor, dtype=output.dtype, shape=output.shape) for output in manifest.outputs),
        parameters=manifest.served_variant.parameters,
    )


def _lines(config: TritonConfig) -> Iterator[str]:
    yield "# Written by `vlaapi export`; change export/triton_config.py, not this file."
    yield f'name: "{config.name}"'
    yield 'backend: "python"'
    yield f"max_batch_size: {config.max_batch_size}"
    yield from (f"input {{ {tensor.fields()} }}" for tensor in config.inputs)
    yield from (f"output {{ {tensor.fields()} }}" for tensor in config.outputs)
    yield f"version_policy {{ specific {{ versions: [{config.version}] }} }}"
    yield f"instance_group {{ kind: KIND_CPU count: {config.instances} }}"
    yield from _batching(config.queue)
    yield from (line for batch in config.warmup_batches for line in _warmup(config.inputs, batch))
    for key, value in {"intra_op_threads": str(config.threads), **config.parameters}.items():
        yield f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


def _batching(queue: Queue) -> Iterator[str]:
    policy = (
        f"timeout_action: REJECT default_timeout_microseconds: {queue.timeout_us} "
        f"allow_timeout_override: true max_queue_size: {queue.max_size}"
    )
    yield "dynamic_batching {"
    yield f"  max_queue_delay_microseconds: {queue.delay_us}"
    yield f"  priority_levels: {queue.priority_levels}"
    yield f"  default_priority_level: {queue.default_priority}"
    yield f"  default_queue_policy {{ {policy} }}"
    yield "}"


def _warmup(inputs: tuple[Tensor, ...], batch: int) -> Iterator[str]:
    yield "model_warmup {"
    yield f'  name: "batch_{batch}"'
    yield f"  batch_size: {batch}"
    for tensor in inputs:
        value = f"data_type: {_TYPES[tensor.dtype]} {_dims(tensor.shape)} zero_data: true"
        yield f'  inputs {{ key: "{tensor.name}" value {{ {value} }} }}'
    yield "}"


def _dims(shape: tuple[int, ...]) -> str:
    return f"dims: [{', '.join(map(str, shape))}]"
