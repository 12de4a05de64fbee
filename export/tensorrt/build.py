"""One typed ONNX file becomes one plan in memory: parsed, strongly typed, with profiles, a workspace limit and progress.

Errors of parser and builder are collected and told in one line each. It writes no file but the timing cache and knows no bundle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.precision.typed import weight_types
from export.tensorrt import check
from export.tensorrt.library import Device, EngineError, Flavour, Library
from export.tensorrt.profiles import Profile

OnProgress = Callable[[str, int, int], None]  # phase, steps done, steps in all
_SHOWN_ERRORS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to build. `timing_cache` is read and written where it is given: kernels timed once are not timed again."""

    model: Path
    precision: str
    device: Device
    profiles: tuple[Profile, ...]
    workspace_bytes: int
    timing_cache: Path | None = None
    max_size_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A plan that was found to be what was asked for. `layers`: of the opened plan, or of its network where no GPU opens it.

    `plan` is TensorRT's own memory: a 7B's 15 GB are not held twice.
    """

    plan: memoryview
    layers: dict[str, int]


def build(library: Library, order: Order, on_progress: OnProgress) -> Built:
    """Builds and checks. Raises EngineError."""
    if library.flavour is Flavour.RTX and order.timing_cache is not None:
        raise EngineError("--timing-cache is for TensorRT: RTX measures no kernels when it builds")
    expected = check.refuse_other_precision(order.model, order.precision)
    messages: list[str] = []
    builder = library.trt.Builder(_logger(library, messages))
    network, parser = _parse(library, builder, order.model, messages)
    layers = check.layers_of(network)
    check.refuse_lost_precision(expected, layers)
    plan = _serialise(library, builder, network, (order, on_progress, messages))
    del parser  # until here: the network reads weights that the parser holds
    check.refuse_wide(plan.nbytes, weight_types(order.model), ratio=order.max_size_ratio)
    if order.device.gpu is not None:
        layers = check.inspect(library, plan)
        if expected:
            check.refuse_inspected(layers, order.precision)
    return Built(plan=plan, layers=layers)


def _logger(library: Library, messages: list[str]) -> Any:
    trt = library.trt

    class Collected(trt.ILogger):  # type: ignore[name-defined]  # the base is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                messages.append(message)

    return Collected()


def _parse(library: Library, builder: Any, model: Path, messages: list[str]) -> tuple[Any, Any]:
    network = builder.create_network(library.network_flags())
    parser = library.trt.OnnxParser(network, _logger(library, messages))
    if not parser.parse_from_file(str(model)):
        errors = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
        raise EngineError(f"{model.name}: TensorRT cannot parse it: {_first(errors or messages)}")
    return network, parser


def _parser_error(error: Any) -> str:
    where = f"node {error.node_name() or error.node()} ({error.node_operator()})" if error.node() >= 0 else "the graph"
    return f"{where}: {_without_driver(error.desc())}"


def _without_driver(message: str) -> str:
    """One line, without what the library says in passing on a machine that has no driver (CUDA error 35)."""
    return " ".join(" ".join(line for line in message.splitlines() if "cudaError 35" not in line).split())


def _first(errors: list[str]) -> str:
    told = [line for error in dict.fromkeys(errors) if (line := _without_driver(error))]
    more = f" (and {len(told) - _SHOWN_ERRORS} more)" if len(told) > _SHOWN_ERRORS else ""
    return "; ".join(told[:_SHOWN_ERRORS]) + more or "no reason given"


def _serialise(library: Library, builder: Any, network: Any, task: tuple[Order, OnProgress, list[str]]) -> memoryview:
    order, on_progress, messages = task
    trt = library.trt
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if library.flavour is Flavour.RTX and order.device.gpu is None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, order.device.suffix.upper()), 0)
    for profile in order.profiles:
        made = builder.create_optimization_profile()
        for name, shape in profile.items():
            made.set_shape(name, shape.min, shape.opt, shape.max)
        config.add_optimization_profile(made)
    monitor = _monitor(library, on_progress)
    if monitor is not None:
        config.progress_monitor = monitor
    cache = _timing_cache(config, order.timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{order.model.name}: TensorRT built no plan: {_first(messages)}")
    if cache is not None and order.timing_cache is not None:
        order.timing_cache.parent.mkdir(parents=True, exist_ok=True)
        order.timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    return memoryview(plan).cast("B")


def _timing_cache(config: Any, path: Path | None) -> Any:
    if path is None:
        return None
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    # One of another version or GPU is refused, and kernels are timed anew.
    return cache if config.set_timing_cache(cache, ignore_mismatch=False) else None


def _monitor(library: Library, on_progress: OnProgress) -> Any:
    if not hasattr(library.trt, "IProgressMonitor"):
        return None
    trt = library.trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]  # the base is known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002 -- TensorRT's
            self.totals[phase_name] = num_steps
            on_progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            on_progress(phase_name, step, self.totals[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            on_progress(phase_name, self.totals[phase_name], self.totals[phase_name])

    return Monitor()
