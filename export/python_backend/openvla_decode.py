"""Runs OpenVLA's three graphs with ONNX Runtime, in the order that `openvla_steps.py` beside it says.

Copied into the version's folder as `runner.py`; Triton's shell and `vlaapi export verify` load the same file, so what is proven
is what is served. Keys and values live in one block per run, as long as prompt and answer together. numpy and onnxruntime only.
"""

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NEXT = ["token", "logprob", "entropy", "embedding", "present"]


def _beside(name: str) -> Any:
    """The file of that name in this folder, compiled from its text: bytecode in `__pycache__` is in no manifest."""
    path = Path(__file__).with_name(f"{name}.py")
    module = types.ModuleType(name)
    exec(compile(path.read_bytes(), path, "exec"), module.__dict__)  # noqa: S102 -- a file of the bundle, hashed like this one
    return module


_steps = _beside("openvla_steps")


class Runner:
    """Parameters: `buckets` ("24,32"), `pad_id`, and `provider` ("cpu" or "cuda"), `device_id`, `intra_op_threads` (1).

    `graphs` are the sessions by file; whoever wants to watch what passes between them may put another with the same `run` there.
    """

    # What a run raises for a bad input (an id outside the vocabulary, say); anything else is a fault here and fails the batch.
    ERRORS = (ValueError, runtime.Fail, runtime.InvalidArgument, runtime.RuntimeException, runtime.NotImplemented)

    def __init__(self, folder: Path, parameters: dict[str, str]) -> None:
        """Loads the graphs of `folder`. Raises KeyError for a missing parameter, ONNX Runtime's errors for a broken file."""
        self.graphs: dict[str, Any] = {
            name: _session(folder / name, parameters) for name in ("prompt.onnx", "continue.onnx", "act.onnx")
        }
        self._decoding = _steps.Decoding(
            buckets=tuple(map(int, parameters["buckets"].split(","))),
            pad_id=int(parameters["pad_id"]),
            tokens=_shape(self.graphs["act.onnx"], "tokens")[1],
        )
        self._memory = _shape(self.graphs["continue.onnx"], "past")

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """`image`, `instruction_ids`, `unnorm_index` by name, batch first."""
        found: list[np.ndarray] = self._decoding.answer(self, inputs, outputs)
        return found

    def prompt(self, image: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `openvla_steps.Graphs`, also for the four below."""
        embeddings, is_real = self.graphs["prompt.onnx"].run(["embeddings", "is_real"], {"image": image, "instruction_ids": ids})
        self._dtype = embeddings.dtype
        return embeddings, is_real

    def memory(self, batch: int, *, new: int, earlier: int) -> np.ndarray:  # noqa: ARG002 -- only plans are made per length
        """A block of its own."""
        return np.zeros((batch, *self._memory[1:4], earlier, self._memory[5]), dtype=self._dtype)

    def keep(self, memory: np.ndarray, present: np.ndarray, at: int) -> None:
        """In place."""
        memory[:, :, :, :, at : at + present.shape[4]] = present

    def next(self, reading: Any, memory: np.ndarray, is_kept: np.ndarray) -> Any:
        """One run of the graph that holds nearly all weights."""
        asked = {"embeddings": reading.embeddings, "is_real": reading.is_real, "start": reading.start}
        found = self.graphs["continue.onnx"].run(_NEXT, asked | {"past": memory, "is_real_past": is_kept})
        return _steps.Token(**dict(zip(_NEXT, found, strict=True)))

    def act(self, tokens: np.ndarray, unnorm_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One look-up."""
        action, is_action = self.graphs["act.onnx"].run(
            ["action", "is_action_token"], {"tokens": tokens, "unnorm_index": unnorm_index}
        )
        return action, is_action


def _session(path: Path, parameters: dict[str, str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_threads", "1"))
    options.inter_op_num_threads = 1
    provider = _PROVIDERS[parameters.get("provider", "cpu")]
    settings = {"device_id": parameters.get("device_id", "0")} if provider.startswith("CUDA") else {}
    session = onnxruntime.InferenceSession(str(path), options, providers=[(provider, settings)])
    if provider not in session.get_providers():  # it falls back to the CPU with a warning only
        raise RuntimeError(f"{provider} is not there: install onnxruntime-gpu with a CUDA driver, or serve on the CPU")
    return session


def _shape(session: onnxruntime.InferenceSession, name: str) -> list[int]:
    shape: list[int] = next(one.shape for one in session.get_inputs() if one.name == name)
    return shape
