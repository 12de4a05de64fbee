"""Runs OpenVLA's three graphs with ONNX Runtime: read pictures and words, continue token by token, look the action up.

Copied into the version's folder as `runner.py`; Triton's shell and `vlaapi export verify` load the same file, so what is proven
is what is served. Keys and values live in one block per run, as long as prompt and answer together. numpy and onnxruntime only.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NEXT = ["token", "logprob", "entropy", "embedding", "present"]


class Runner:
    """Parameters: `buckets` ("24,32"), `pad_id`, and `provider` ("cpu" or "cuda"), `device_id`, `intra_op_threads` (1)."""

    # What a run raises for a bad input (an id outside the vocabulary, say); anything else is a fault here and fails the batch.
    ERRORS = (ValueError, runtime.Fail, runtime.InvalidArgument, runtime.RuntimeException, runtime.NotImplemented)

    def __init__(self, folder: Path, parameters: dict[str, str]) -> None:
        """Loads the graphs of `folder`. Raises KeyError for a missing parameter, ONNX Runtime's errors for a broken file."""
        self._buckets = [int(bucket) for bucket in parameters["buckets"].split(",")]
        self._pad_id = int(parameters["pad_id"])
        self._prompt = _session(folder / "prompt.onnx", parameters)
        self._continue = _session(folder / "continue.onnx", parameters)
        self._act = _session(folder / "act.onnx", parameters)
        self._tokens = _shape(self._act, "tokens")[1]
        _, self._layers, _, self._groups, _, self._head_dim = _shape(self._continue, "past")

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """`image`, `instruction_ids`, `unnorm_index` by name, batch first; all are cut to the bucket of the longest prompt."""
        if inputs["instruction_ids"].min() < 0 or inputs["unnorm_index"].min() < 0:
            raise ValueError("negative ids would count from the end")
        words = {"image": inputs["image"], "instruction_ids": self._cut(inputs["instruction_ids"])}
        embeddings, is_real = self._prompt.run(["embeddings", "is_real"], words)
        tokens, logprobs, entropies = self._decode(embeddings, is_real)
        asked = {"tokens": tokens, "unnorm_index": inputs["unnorm_index"]}
        action, is_action = self._act.run(["action", "is_action_token"], asked)
        found = {"action": action, "action_tokens": tokens, "is_action_token": is_action}
        found |= {"token_logprob": logprobs, "token_entropy": entropies}
        return [found[name] for name in outputs]

    def _cut(self, ids: np.ndarray) -> np.ndarray:
        is_word = (ids != self._pad_id).any(axis=0)
        longest = int(np.flatnonzero(is_word)[-1]) + 1 if is_word.any() else 1
        return np.ascontiguousarray(ids[:, : next(bucket for bucket in self._buckets if bucket >= longest)])

    def _decode(self, embeddings: np.ndarray, is_real: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The first token sees the prompt and no past (one place that is not real); each further one sees all before it.

        A shorter prompt of the batch leaves places behind it that stay unreal; its tokens go on at its own length.
        """
        batch, prompt = is_real.shape
        length, one = is_real.sum(axis=1, dtype=np.int64), np.ones((batch, 1), dtype=bool)
        nothing = self._memory(batch, 1, embeddings.dtype)
        found = [self._next(embeddings, is_real, length - length, nothing, ~one)]
        memory = self._memory(batch, prompt + self._tokens - 1, embeddings.dtype)
        memory[:, :, :, :, :prompt] = found[0][4]
        is_kept = np.zeros((batch, memory.shape[4]), dtype=bool)
        is_kept[:, :prompt] = is_real
        for place in range(self._tokens - 1):
            found.append(self._next(found[-1][3], one, length + place, memory, is_kept))
            memory[:, :, :, :, prompt + place] = found[-1][4][:, :, :, :, 0]
            is_kept[:, prompt + place] = True
        tokens, logprobs, entropies = (np.stack([step[part] for step in found], axis=1) for part in range(3))
        return tokens, logprobs, entropies

    def _memory(self, batch: int, places: int, dtype: np.dtype) -> np.ndarray:
        """Zeros, because what is masked is still multiplied."""
        return np.zeros((batch, self._layers, 2, self._groups, places, self._head_dim), dtype=dtype)

    def _next(
        self, embeddings: np.ndarray, is_real: np.ndarray, start: np.ndarray, past: np.ndarray, is_real_past: np.ndarray
    ) -> list[np.ndarray]:
        asked = {"embeddings": embeddings, "is_real": is_real, "start": start, "past": past, "is_real_past": is_real_past}
        found: list[np.ndarray] = self._continue.run(_NEXT, asked)
        return found


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
