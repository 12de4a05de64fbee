"""Runs one ONNX graph with ONNX Runtime: the runner of every policy that is one forward.

Copied into the version's folder as `runner.py`; Triton's shell and `vlaapi export verify` load the same file, so what is proven
is what is served. numpy and onnxruntime only, nothing of ours; names come from the graph.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

# What loading may raise: a damaged file, another ONNX version, a precision that this processor lacks.
_LOAD_ERRORS = (runtime.Fail, runtime.InvalidProtobuf, runtime.InvalidGraph, runtime.NoSuchFile, runtime.NotImplemented)
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Runner:
    """One session. Parameters: `graph` ("model.onnx"), `provider` ("cpu" or "cuda"), `device_id`, `intra_op_threads` (1)."""

    # What a run raises for a bad input (an id outside the vocabulary, say); anything else is a fault here and fails the batch.
    ERRORS = (ValueError, runtime.Fail, runtime.InvalidArgument, runtime.RuntimeException, runtime.NotImplemented)

    def __init__(self, folder: Path, parameters: dict[str, str]) -> None:
        """Loads the graph of `folder`. Raises KeyError for an unknown provider, RuntimeError where it cannot be run here."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_threads", "1"))
        options.inter_op_num_threads = 1
        provider = _PROVIDERS[parameters.get("provider", "cpu")]
        if provider not in onnxruntime.get_available_providers():
            raise RuntimeError(f"{provider} is not there: install onnxruntime-gpu, or serve on the CPU")
        settings = {"device_id": parameters.get("device_id", "0")} if provider.startswith("CUDA") else {}
        file = str(folder / parameters.get("graph", "model.onnx"))
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=[(provider, settings)])
        except _LOAD_ERRORS as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        if provider not in self._session.get_providers():  # without a driver it falls back to the CPU with a warning only
            raise RuntimeError(f"{provider} does not start: is there a GPU with a CUDA driver?")
        self._inputs = [one.name for one in self._session.get_inputs()]

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Arrays by name, batch first; an input that the graph does not use is left out."""
        found: list[np.ndarray] = self._session.run(list(outputs), {name: inputs[name] for name in self._inputs})
        return found
