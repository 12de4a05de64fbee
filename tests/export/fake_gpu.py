"""A GPU made of ordinary memory: CUDA's runtime calls that our runners make, and a TensorRT whose plans are ONNX files.

So the plan runners' own work (profiles, buffers, copies, recorded graphs) runs without a GPU; kernels are ONNX Runtime's. A copy
in the wrong direction, a shape outside its profile or a read of a freed or foreign address is an error here as it is there.
"""

import ctypes
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.contract.runtime import ShapeRange
from export.tensorrt.profiles import Profile

_NUMPY = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(uint8)": "uint8", "tensor(bool)": "bool"}


@dataclass(frozen=True)
class _Error:
    name: str
    value: int

    def __int__(self) -> int:
        return self.value


_OK, _INVALID = _Error("cudaSuccess", 0), _Error("cudaErrorInvalidValue", 1)


class _Recording(list[Callable[[], object]]):
    """What was asked between the beginning and the end of a capture."""


class FakeCuda:
    """`cuda.bindings.runtime`, every call done at once. `launched` counts replays."""

    cudaMemcpyKind = SimpleNamespace(  # noqa: N815 -- CUDA's names, here and below
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self) -> None:
        self.memory: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.recording: _Recording | None = None
        self.launched = 0

    def is_device(self, address: int, size: int) -> bool:
        """Whether all of it lies in one allocation."""
        return any(start <= address and address + size <= start + len(block) for start, block in self.memory.items())

    def cudaStreamCreate(self) -> tuple[_Error, int]:  # noqa: N802
        return _OK, 7

    def cudaStreamSynchronize(self, _stream: int) -> tuple[_Error]:  # noqa: N802
        return (_OK,)

    def cudaMalloc(self, size: int) -> tuple[_Error, int]:  # noqa: N802
        block = ctypes.create_string_buffer(b"\xab" * size, size)  # never zeros: what is not written must not look written
        self.memory[ctypes.addressof(block)] = block
        return _OK, ctypes.addressof(block)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, _stream: int) -> tuple[_Error]:  # noqa: N802
        if (self.is_device(target, size), self.is_device(source, size)) != {1: (True, False), 2: (False, True), 3: (True, True)}[
            kind
        ]:
            return (_INVALID,)
        ctypes.memmove(target, source, size)
        return (_OK,)

    def cudaMemcpy2DAsync(  # noqa: N802
        self, target: int, target_step: int, source: int, source_step: int, width: int, rows: int, kind: int, stream: int
    ) -> tuple[_Error]:
        if width > min(target_step, source_step):
            return (_INVALID,)
        for row in range(rows):
            (error,) = self.cudaMemcpyAsync(target + row * target_step, source + row * source_step, width, kind, stream)
            if int(error):
                return (error,)
        return (_OK,)

    def cudaMemsetAsync(self, target: int, value: int, size: int, _stream: int) -> tuple[_Error]:  # noqa: N802
        if not self.is_device(target, size):
            return (_INVALID,)
        ctypes.memset(target, value, size)
        return (_OK,)

    def cudaStreamBeginCapture(self, _stream: int, _mode: int) -> tuple[_Error]:  # noqa: N802
        self.recording = _Recording()
        return (_OK,)

    def cudaStreamEndCapture(self, _stream: int) -> tuple[_Error, _Recording | None]:  # noqa: N802
        recorded, self.recording = self.recording, None
        return _OK, recorded

    def cudaGraphInstantiate(self, graph: _Recording, _flags: int) -> tuple[_Error, _Recording]:  # noqa: N802
        return _OK, graph

    def cudaGraphLaunch(self, graph: _Recording, _stream: int) -> tuple[_Error]:  # noqa: N802
        self.launched += 1
        for work in graph:
            work()
        return (_OK,)


@dataclass(frozen=True)
class _Type:
    """A TensorRT data type."""

    name: str

    @property
    def itemsize(self) -> int:
        return np.dtype(self.name).itemsize


def plan_of(model: Path, shapes: tuple[Profile, ...]) -> bytes:
    """A plan that `FakeTensorRt` opens."""
    named = [{name: shape.model_dump() for name, shape in profile.items()} for profile in shapes]
    return json.dumps({"onnx": str(model), "profiles": named}).encode()


class FakeTensorRt:
    """The module `tensorrt`."""

    __version__ = "11.1.0.106"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    class Logger:
        """Says nothing."""

        WARNING = 1

        def __init__(self, _level: int) -> None: ...

    def Runtime(self, _logger: object) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: _Engine(json.loads(plan), self._cuda))

    def nptype(self, dtype: _Type) -> type[np.generic]:
        """As TensorRT: there is no numpy type for some, so nobody may ask for all."""
        return np.dtype(dtype.name).type


class _Engine:
    def __init__(self, facts: dict[str, Any], cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.session = onnxruntime.InferenceSession(facts["onnx"], providers=["CPUExecutionProvider"])
        self.profiles = [
            {name: ShapeRange(**{end: tuple(shape[end]) for end in ("min", "opt", "max")}) for name, shape in profile.items()}
            for profile in facts["profiles"]
        ]
        self.io = {one.name: one for one in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.num_io_tensors, self.num_optimization_profiles = len(self.io), len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.io)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def get_tensor_dtype(self, name: str) -> _Type:
        return _Type(_NUMPY[self.io[name].type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self.io[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        found = self.profiles[profile][name]
        return found.min, found.opt, found.max

    def create_execution_context(self) -> "_Context":
        return _Context(self)


@dataclass
class _Context:
    engine: _Engine
    profile: int = 0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    known: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = field(default_factory=dict)

    def set_optimization_profile_async(self, profile: int, _stream: int) -> bool:
        self.profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, self.profile)
        assert all(least <= size <= most for least, size, most in zip(low, shape, high, strict=True)), (name, shape)
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.engine.inputs:
            return self.shapes[name]
        key = tuple(sorted(self.shapes.items()))
        if key not in self.known:
            zeros = {one: np.zeros(shape, self._dtype(one)) for one, shape in self.shapes.items()}
            names = [one for one in self.engine.io if one not in self.engine.inputs]
            answers = self.engine.session.run(names, zeros)
            self.known[key] = {one: answer.shape for one, answer in zip(names, answers, strict=True)}
        return self.known[key][name]

    def execute_async_v3(self, _stream: int) -> bool:
        if self.engine.cuda.recording is not None:
            self.engine.cuda.recording.append(self._run)
        else:
            self._run()
        return True

    def _run(self) -> None:
        names = [name for name in self.engine.io if name not in self.engine.inputs]
        answers = self.engine.session.run(names, {name: self._at(name).copy() for name in self.engine.inputs})
        for name, answer in zip(names, answers, strict=True):
            self._at(name)[...] = answer

    def _at(self, name: str) -> NDArray[Any]:
        shape, dtype = self.get_tensor_shape(name), self._dtype(name)
        size = int(np.prod(shape)) * dtype.itemsize
        assert self.engine.cuda.is_device(self.addresses[name], size), name
        block = (ctypes.c_char * size).from_address(self.addresses[name])
        return np.frombuffer(memoryview(block), dtype=dtype).reshape(shape)

    def _dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(self.engine.get_tensor_dtype(name).name)
