"""Runs inside Triton's Python backend: answers every request of a batch with one run of `model.onnx` beside this file.

Copied into each version folder by `vlaapi export`. It needs numpy (< 2 with Triton 2.51.0) and onnxruntime, and knows neither
torch nor the policy: names come from the model's own config. A request that breaks the run gets its own error; its neighbours in
the batch are answered.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

Batch = dict[str, np.ndarray]

# What a run may raise for a bad input (an id outside the vocabulary, say); anything else is a fault here and fails the batch.
_RUN_ERRORS = (ValueError, runtime.Fail, runtime.InvalidArgument, runtime.RuntimeException, runtime.NotImplemented)


class TritonPythonModel:
    """One instance per process; Triton calls `initialize` once, then `execute` with one batch at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph. `intra_op_threads` in the config's parameters says how many threads one run may use."""
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["intra_op_threads"]["string_value"])
        options.inter_op_num_threads = 1
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response per request, in order."""
        batches = [self._arrays(request) for request in requests]
        joined = {name: np.concatenate([batch[name] for batch in batches]) for name in self.inputs}
        try:
            found = self.session.run(self.outputs, joined)
        except _RUN_ERRORS:
            return [self._alone(batch) for batch in batches]
        ends = np.cumsum([len(batch[self.inputs[0]]) for batch in batches])[:-1]
        return [self._response(part) for part in zip(*(np.split(array, ends) for array in found), strict=True)]

    def _arrays(self, request: Any) -> Batch:
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}

    def _alone(self, batch: Batch) -> Any:
        """The answer to one request, or its error: the class only, because the text may hold paths."""
        try:
            return self._response(self.session.run(self.outputs, batch))
        except _RUN_ERRORS as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"the graph failed: {type(error).__name__}"))

    def _response(self, arrays: Sequence[np.ndarray]) -> Any:
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in zip(self.outputs, arrays, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
