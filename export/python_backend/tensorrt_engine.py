"""Runs one TensorRT plan: the runner of a policy that was built with `vlaapi export build-engine`.

Copied into the version's folder as `runner.py`, or beside `openvla_plans.py`, which owns several. Beside the plan lies
`<plan>.json`, which says what it was built for; a plan of another TensorRT, GPU or graph is refused in one line before TensorRT
sees it. Batches run one at a time on one stream, in the first profile that holds them, with device buffers made once. It needs
numpy, tensorrt and cuda-python and nothing of ours.
"""

import ctypes
import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_MODULES = {"tensorrt": ("tensorrt", "tensorrt_bindings"), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_MAJOR, _MINOR = 75, 76  # CUdevice_attribute: compute capability


class PlanRefused(RuntimeError):  # noqa: N818 -- reads as what happened
    """A plan that does not belong on this machine; one line that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as the driver names it; `compute_capability` is "9.0"."""

    name: str
    compute_capability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What `<plan>.json` says. `gpu` is "none" for a plan that was built for a capability rather than for one GPU."""

    flavour: str
    version: str
    gpu: str
    compute_capability: str
    onnx_sha256: str
    plan_sha256: str
    name: str

    @classmethod
    def read(cls, plan: Path) -> "Made":
        """Raises PlanRefused when the file is missing or says too little."""
        path = plan.with_name(f"{plan.name}.json")
        try:
            facts = json.loads(path.read_text())
            return cls(**{name: str(facts[name]) for name in cls.__slots__})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PlanRefused(f"{path.name}: {type(error).__name__}: a plan needs it beside itself: {_again('NAME')}") from None


def why_not(made: Made, *, flavour: str, version: str, gpu: Gpu | None, onnx_sha256: str | None) -> str | None:
    """Why a plan cannot run here, in one line; None if it can. `onnx_sha256` is of the graph it should come from, if known."""
    built = f"plan built by {_library(made.flavour, made.version)} for {_place(made.gpu, made.compute_capability)}"
    if gpu is None:
        return f"{built}, and no NVIDIA GPU is visible here: give the container one, or serve the ONNX variant"
    here = f"this is {_library(flavour, version)} on {_place(gpu.name, gpu.compute_capability)}"
    same_library = (made.flavour, made.version) == (flavour, version)
    same_gpu = made.compute_capability == gpu.compute_capability and made.gpu in {"none", gpu.name}
    if not (same_library and same_gpu):
        return f"{built}, {here}: {_again(made.name)}"
    if onnx_sha256 is not None and made.onnx_sha256 != onnx_sha256:
        return (
            f"plan built from another graph ({made.onnx_sha256[:12]}…, the bundle's is {onnx_sha256[:12]}…): {_again(made.name)}"
        )
    return None


def _library(flavour: str, version: str) -> str:
    return f"{'TensorRT-RTX' if flavour == 'tensorrt_rtx' else 'TensorRT'} {version}"


def _place(gpu: str, capability: str) -> str:
    return f"compute capability {capability}" if gpu == "none" else f"{gpu} ({capability})"


def _again(name: str) -> str:
    return f"run `vlaapi export build-engine {name}` on this machine"


def visible_gpu(index: int = 0) -> Gpu | None:
    """The GPU that CUDA counts as `index`, asked of the driver itself; None without a driver or a GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name, digits = ctypes.c_int(), ctypes.create_string_buffer(256), []
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetName(name, 256, device):
        return None
    for attribute in (_MAJOR, _MINOR):
        digit = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(digit), attribute, device)
        digits.append(str(digit.value))
    return Gpu(name=name.value.decode(), compute_capability=".".join(digits))


class Runner:
    """One plan, one stream. Parameters: `plan` (a file name), `onnx_sha256` (optional), `cuda_graph` ("1": replay per shape)."""

    ERRORS = (ValueError,)

    def __init__(self, folder: Path, parameters: dict[str, str]) -> None:
        """Checks and loads the plan. Raises PlanRefused."""
        loaded = load_plan(folder / parameters["plan"], onnx_sha256=parameters.get("onnx_sha256"))
        self._engine = Engine(loaded, Stream(), uses_graphs=parameters.get("cuda_graph") == "1")

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Arrays by name, batch first. Raises ValueError for shapes that no profile takes."""
        found = self._engine.launch(inputs)
        return self._engine.fetch([found[name] for name in outputs])


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A plan that belongs on this machine, and the TensorRT that runs it."""

    trt: Any
    plan: bytes


def load_plan(path: Path, *, onnx_sha256: str | None) -> Loaded:
    """Reads and checks; TensorRT has not seen it yet. Raises PlanRefused."""
    made = Made.read(path)
    trt = _import(made)
    refusal = why_not(made, flavour=made.flavour, version=str(trt.__version__), gpu=visible_gpu(), onnx_sha256=onnx_sha256)
    if refusal:
        raise PlanRefused(refusal)
    plan = path.read_bytes()
    if hashlib.sha256(plan).hexdigest() != made.plan_sha256:
        raise PlanRefused(f"{path.name} is not the file that was built: {_again(made.name)}")
    return Loaded(trt=trt, plan=plan)


def _import(made: Made) -> Any:
    for name in _MODULES.get(made.flavour, ()):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise PlanRefused(f"{_library(made.flavour, made.version)} is not installed here: use the image that the plan was built in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A tensor on the GPU, C order. `dtype` is TensorRT's; an output's block is overwritten by the next run of its shape."""

    address: int
    shape: tuple[int, ...]
    dtype: Any

    @property
    def nbytes(self) -> int:
        """Of the whole."""
        return int(np.prod(self.shape)) * int(self.dtype.itemsize)


class Stream:
    """What the GPU is asked in order: several engines on one stream need no waiting between them."""

    def __init__(self) -> None:
        self.cuda = importlib.import_module("cuda.bindings.runtime")
        self._handle = self.do(self.cuda.cudaStreamCreate())

    def __int__(self) -> int:
        return int(self._handle)

    def wait(self) -> None:
        """Until everything asked so far is done."""
        self.do(self.cuda.cudaStreamSynchronize(self._handle))

    def allocate(self, size: int) -> int:
        """The address of `size` bytes that nobody frees: buffers live as long as their engine."""
        return int(self.do(self.cuda.cudaMalloc(max(size, 1))))

    def copy(self, target: int, source: int, size: int, kind: str) -> None:
        """`kind` is HostToDevice, DeviceToHost or DeviceToDevice."""
        self.do(
            self.cuda.cudaMemcpyAsync(target, source, size, getattr(self.cuda.cudaMemcpyKind, f"cudaMemcpy{kind}"), self._handle)
        )

    def copy_rows(self, target: tuple[int, int], source: tuple[int, int], size: tuple[int, int]) -> None:
        """On the device: (address, bytes from row to row) each, and (bytes of a row, rows)."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self.do(self.cuda.cudaMemcpy2DAsync(*target, *source, *size, kind, self._handle))

    def clear(self, block: Block) -> None:
        """Zeros."""
        self.do(self.cuda.cudaMemsetAsync(block.address, 0, block.nbytes, self._handle))

    def record(self, work: Callable[[], object]) -> Any:
        """What `work` asks, as a CUDA graph."""
        self.wait()
        mode = self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.do(self.cuda.cudaStreamBeginCapture(self._handle, mode))
        work()
        return self.do(self.cuda.cudaGraphInstantiate(self.do(self.cuda.cudaStreamEndCapture(self._handle)), 0))

    def replay(self, graph: Any) -> None:
        """Asks it again."""
        self.do(self.cuda.cudaGraphLaunch(graph, self._handle))

    def do(self, answer: tuple[Any, ...]) -> Any:
        """cuda-python answers (error, value). Raises RuntimeError."""
        error, *values = answer
        if int(error):
            raise RuntimeError(f"CUDA: {error.name}")
        return values[0] if values else None


class Engine:
    """A plan on the GPU: a context per profile, a device buffer per tensor and profile, sized for its largest shapes."""

    def __init__(self, loaded: Loaded, stream: Stream, *, uses_graphs: bool) -> None:
        trt = self.trt = loaded.trt
        self.stream, self.uses_graphs = stream, uses_graphs
        self.logger = trt.Logger(trt.Logger.WARNING)
        self.runtime = trt.Runtime(self.logger)
        self.engine = self.runtime.deserialize_cuda_engine(loaded.plan)
        if self.engine is None:
            raise PlanRefused(
                "TensorRT does not open the plan, though it was built for this version and GPU: see its own message above"
            )
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        self.inputs = [name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]
        self.contexts = [self._context(profile) for profile in range(self.engine.num_optimization_profiles)]
        self.buffers = [self._buffers(profile) for profile in range(self.engine.num_optimization_profiles)]
        self.graphs: dict[tuple[Any, ...], Any] = {}

    def launch(self, given: Mapping[str, np.ndarray | Block]) -> dict[str, Block]:
        """Runs on arrays of the host and blocks of the device alike, without waiting. Raises ValueError where no profile fits."""
        inputs = {name: self._held(name, given[name]) for name in self.inputs}
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        profile = self.profile_of(shapes)
        context, buffers = self.contexts[profile], self.buffers[profile]
        for name, value in inputs.items():
            context.set_input_shape(name, shapes[name])
            if isinstance(value, Block):
                if value.address != buffers[name]:
                    self.stream.copy(buffers[name], value.address, value.nbytes, "DeviceToDevice")
            else:
                self.stream.copy(buffers[name], value.ctypes.data, value.nbytes, "HostToDevice")
        self._execute(context, (profile, *shapes.values()))
        return {
            name: Block(address=buffers[name], shape=tuple(context.get_tensor_shape(name)), dtype=self._type(name))
            for name in self.outputs
        }

    def fetch(self, blocks: Sequence[Block]) -> list[np.ndarray]:
        """The numbers in them, on the host; waits."""
        found = [np.empty(block.shape, dtype=self.trt.nptype(block.dtype)) for block in blocks]
        for values, block in zip(found, blocks, strict=True):
            self.stream.copy(values.ctypes.data, block.address, values.nbytes, "DeviceToHost")
        self.stream.wait()
        return found

    def place(self, name: str, shapes: dict[str, tuple[int, ...]]) -> Block:
        """Where input `name` will be read from when a run has these shapes: what is written there need not be copied."""
        return Block(address=self.buffers[self.profile_of(shapes)][name], shape=shapes[name], dtype=self._type(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """As the plan was built; −1 where it is free."""
        return tuple(self.engine.get_tensor_shape(name))

    def profile_of(self, shapes: dict[str, tuple[int, ...]]) -> int:
        """The first that takes these shapes (some of the inputs will do). Raises ValueError."""
        for profile in range(len(self.contexts)):
            if all(self._holds(profile, name, shape) for name, shape in shapes.items()):
                return profile
        raise ValueError(f"no profile of the plan takes {', '.join(f'{name} {shape}' for name, shape in shapes.items())}")

    def _held(self, name: str, value: np.ndarray | Block) -> np.ndarray | Block:
        """In the plan's own type."""
        if not isinstance(value, Block):
            return np.ascontiguousarray(value, dtype=self.trt.nptype(self._type(name)))
        if value.dtype != self._type(name):
            raise RuntimeError(f"{name} is {value.dtype} where it is made and {self._type(name)} where it is read")
        return value

    def _execute(self, context: Any, key: tuple[Any, ...]) -> None:
        """With `uses_graphs` the first run of a shape is followed by a recorded one, and later ones replay that."""
        graph = self.graphs.get(key)
        if graph is not None:
            self.stream.replay(graph)
            return
        if not context.execute_async_v3(int(self.stream)):
            raise RuntimeError("TensorRT could not run the plan")
        if self.uses_graphs:
            self.graphs[key] = self.stream.record(lambda: context.execute_async_v3(int(self.stream)))

    def _holds(self, profile: int, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, profile)
        return len(shape) == len(low) and all(least <= size <= most for least, size, most in zip(low, shape, high, strict=True))

    def _context(self, profile: int) -> Any:
        context = self.engine.create_execution_context()
        context.set_optimization_profile_async(profile, int(self.stream))
        self.stream.wait()
        return context

    def _buffers(self, profile: int) -> dict[str, int]:
        context = self.contexts[profile]
        for name in self.inputs:
            context.set_input_shape(name, tuple(self.engine.get_tensor_profile_shape(name, profile)[2]))
        found = {}
        for name in (*self.inputs, *self.outputs):
            size = int(np.prod(tuple(context.get_tensor_shape(name)))) * int(self._type(name).itemsize)
            found[name] = self.stream.allocate(size)
            context.set_tensor_address(name, found[name])
        return found

    def _type(self, name: str) -> Any:
        return self.engine.get_tensor_dtype(name)
