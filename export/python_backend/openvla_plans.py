"""Runs OpenVLA's three graphs as TensorRT plans, in the order that `openvla_steps.py` beside it says.

Copied into the version's folder as `runner.py`, with `tensorrt_engine.py`. Embeddings, keys and values never leave the GPU: what
a step remembers is written straight into the buffer that the next one reads. One stream, one batch at a time. Needs numpy,
tensorrt and cuda-python.
"""

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

GRAPHS = ("prompt", "continue", "act")


def _beside(name: str) -> Any:
    """The file of that name in this folder, compiled from its text: bytecode in `__pycache__` is in no manifest."""
    path = Path(__file__).with_name(f"{name}.py")
    module = types.ModuleType(name)
    exec(compile(path.read_bytes(), path, "exec"), module.__dict__)  # noqa: S102 -- a file of the bundle, hashed like this one
    return module


_steps, _trt = _beside("openvla_steps"), _beside("tensorrt_engine")


class Runner:
    """Parameters: `buckets` ("24,32"), `pad_id`, `cuda_graph` ("1": replay per shape), and per graph `<graph>.plan` (a file name)
    and `<graph>.onnx_sha256`."""

    ERRORS = (ValueError,)

    def __init__(self, folder: Path, parameters: dict[str, str]) -> None:
        """Checks every plan before TensorRT sees one, then loads them. Raises PlanRefused."""
        checked = {
            name: _trt.load_plan(folder / parameters[f"{name}.plan"], onnx_sha256=parameters.get(f"{name}.onnx_sha256"))
            for name in GRAPHS
        }
        self._stream, uses_graphs = _trt.Stream(), parameters.get("cuda_graph") == "1"
        self._prompt, self._continue, self._act = (
            _trt.Engine(checked[name], self._stream, uses_graphs=uses_graphs) for name in GRAPHS
        )
        self._decoding = _steps.Decoding(
            buckets=tuple(map(int, parameters["buckets"].split(","))),
            pad_id=int(parameters["pad_id"]),
            tokens=self._act.shape("tokens")[1],
        )

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """`image`, `instruction_ids`, `unnorm_index` by name, batch first. Raises ValueError where no profile fits."""
        found: list[np.ndarray] = self._decoding.answer(self, inputs, outputs)
        return found

    def prompt(self, image: np.ndarray, ids: np.ndarray) -> tuple[Any, np.ndarray]:
        """See `openvla_steps.Graphs`, also for the four below."""
        found = self._prompt.launch({"image": image, "instruction_ids": ids})
        (is_real,) = self._prompt.fetch([found["is_real"]])
        return found["embeddings"], is_real

    def memory(self, batch: int, *, new: int, earlier: int) -> Any:
        """The very buffer that the plan reads for steps of that size."""
        _, layers, two, groups, _, head_dim = self._continue.shape("past")
        hidden = self._continue.shape("embeddings")[2]
        shapes = {"past": (batch, layers, two, groups, earlier, head_dim), "embeddings": (batch, new, hidden)}
        block = self._continue.place("past", shapes)
        self._stream.clear(block)
        return block

    def keep(self, memory: Any, present: Any, at: int) -> None:
        """Row by row: a row is one head's places."""
        *rows, places, head_dim = memory.shape
        step = head_dim * memory.dtype.itemsize
        new = present.shape[4] * step
        self._stream.copy_rows((memory.address + at * step, places * step), (present.address, new), (new, int(np.prod(rows))))

    def next(self, reading: Any, memory: Any, is_kept: np.ndarray) -> Any:
        """One run of the plan that holds nearly all weights; only the chosen tokens come back to the host."""
        asked = {"embeddings": reading.embeddings, "is_real": reading.is_real, "start": reading.start}
        found = self._continue.launch(asked | {"past": memory, "is_real_past": is_kept})
        token, logprob, entropy = self._continue.fetch([found[name] for name in ("token", "logprob", "entropy")])
        return _steps.Token(token=token, logprob=logprob, entropy=entropy, embedding=found["embedding"], present=found["present"])

    def act(self, tokens: np.ndarray, unnorm_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One look-up."""
        found = self._act.launch({"tokens": tokens, "unnorm_index": unnorm_index})
        action, is_action = self._act.fetch([found["action"], found["is_action_token"]])
        return action, is_action
