"""Triton's side of a served policy: joins the requests of a batch, asks `runner.py` beside this file once, splits the answer.

Copied into each version folder by `vlaapi export`. It needs numpy (< 2 with Triton 2.51.0) and knows neither torch nor the
policy: names come from the model's own config, the work is the runner's. A request that breaks the run gets its own error; its
neighbours in the batch are answered.
"""

import importlib.util
import json
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

Batch = dict[str, np.ndarray]


class TritonPythonModel:
    """One instance per process; Triton calls `initialize` once, then `execute` with one batch at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the runner with the config's parameters; on a GPU also with `device_id`, the instance's device."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        if args["model_instance_kind"] == "GPU":
            parameters["device_id"] = args["model_instance_device_id"]
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.runner = _runner(Path(args["model_repository"]) / args["model_version"], parameters)

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response per request, in order."""
        batches = [self._arrays(request) for request in requests]
        joined = {name: np.concatenate([batch[name] for batch in batches]) for name in self.inputs}
        try:
            found = self.runner.run(joined, self.outputs)
        except self.runner.ERRORS:
            return [self._alone(batch) for batch in batches]
        ends = np.cumsum([len(batch[self.inputs[0]]) for batch in batches])[:-1]
        return [self._response(part) for part in zip(*(np.split(array, ends) for array in found), strict=True)]

    def _arrays(self, request: Any) -> Batch:
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}

    def _alone(self, batch: Batch) -> Any:
        """The answer to one request, or its error: the class only, because the text may hold paths."""
        try:
            return self._response(self.runner.run(batch, self.outputs))
        except self.runner.ERRORS as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"the graph failed: {type(error).__name__}"))

    def _response(self, arrays: Sequence[np.ndarray]) -> Any:
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in zip(self.outputs, arrays, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)


class _Source(SourceFileLoader):
    """Compiles the file itself, which the manifest holds the hash of; bytecode in `__pycache__` is in no manifest."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _runner(folder: Path, parameters: dict[str, str]) -> Any:
    """The runner beside this file by its path: another `runner` on Triton's search path is not it."""
    loader = _Source("served_runner", str(folder / "runner.py"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # a loader of source always has a spec
    loader.exec_module(module)
    return module.Runner(folder, parameters)
