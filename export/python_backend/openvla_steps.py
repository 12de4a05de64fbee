"""How OpenVLA's three graphs answer a batch: read pictures and words, continue token by token, look the action up.

What `openvla_decode.py` (ONNX Runtime) and `openvla_plans.py` (TensorRT) have in common, copied into the version's folder beside
them. It holds the order of steps and the masks; embeddings, keys and values are handles that only the runtime looks into.
numpy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One more token of every request in the batch: (B,) arrays, and what the next step reads, wherever the runtime keeps it."""

    token: np.ndarray
    logprob: np.ndarray
    entropy: np.ndarray
    embedding: Any  # (B, 1, hidden)
    present: Any  # (B, layers, 2, groups, Q, head_dim): keys and values of the places just read


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one step reads: `embeddings` (B, Q, hidden), of which `is_real` (B, Q) count, at positions from `start` (B,) on."""

    embeddings: Any
    is_real: np.ndarray
    start: np.ndarray


class Graphs(Protocol):
    """The three graphs on some runtime. Handles are valid until the next answer begins."""

    def prompt(self, image: np.ndarray, ids: np.ndarray) -> tuple[Any, np.ndarray]:
        """Embeddings (B, places, hidden) and which places are real (B, places) bool."""

    def memory(self, batch: int, *, new: int, earlier: int) -> Any:
        """Keys and values of `earlier` places, for steps that read `new` ones. Zeros: what is masked is still multiplied."""

    def keep(self, memory: Any, present: Any, at: int) -> None:
        """Writes the keys and values of new places into `memory` from place `at` on."""

    def next(self, reading: Reading, memory: Any, is_kept: np.ndarray) -> Token:
        """The token after the last real place, given the `is_kept` (B, earlier) places of `memory`."""

    def act(self, tokens: np.ndarray, unnorm_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actions (B, 1, n) in physical units, and which tokens are action tokens (B, n) uint8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """`buckets` are the prompt lengths that the graphs were made for; `pad_id` fills the rest; `tokens` are spoken per answer."""

    buckets: tuple[int, ...]
    pad_id: int
    tokens: int

    def answer(self, graphs: Graphs, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """`image`, `instruction_ids`, `unnorm_index` by name, batch first; all are cut to the bucket of the longest prompt.

        Raises ValueError for ids below zero, which would count from the end.
        """
        if inputs["instruction_ids"].min() < 0 or inputs["unnorm_index"].min() < 0:
            raise ValueError("negative ids would count from the end")
        spoken = self._decode(graphs, inputs["image"], self._cut(inputs["instruction_ids"]))
        found = {
            "action_tokens": np.stack([one.token for one in spoken], axis=1),
            "token_logprob": np.stack([one.logprob for one in spoken], axis=1),
            "token_entropy": np.stack([one.entropy for one in spoken], axis=1),
        }
        found["action"], found["is_action_token"] = graphs.act(found["action_tokens"], inputs["unnorm_index"])
        return [found[name] for name in outputs]

    def _cut(self, ids: np.ndarray) -> np.ndarray:
        is_word = (ids != self.pad_id).any(axis=0)
        longest = int(np.flatnonzero(is_word)[-1]) + 1 if is_word.any() else 1
        return np.ascontiguousarray(ids[:, : next(bucket for bucket in self.buckets if bucket >= longest)])

    def _decode(self, graphs: Graphs, image: np.ndarray, ids: np.ndarray) -> list[Token]:
        """The first token sees the prompt and no past (one place that is not real); each further one sees all before it.

        A shorter prompt of the batch leaves places behind it that stay unreal; its tokens go on at its own length.
        """
        embeddings, is_real = graphs.prompt(image, ids)
        batch, prompt = is_real.shape
        length, one = is_real.sum(axis=1, dtype=np.int64), np.ones((batch, 1), dtype=bool)
        nothing = graphs.memory(batch, new=prompt, earlier=1)
        first = graphs.next(Reading(embeddings=embeddings, is_real=is_real, start=np.zeros_like(length)), nothing, ~one)
        places = prompt + self.tokens - 1
        memory = graphs.memory(batch, new=1, earlier=places)
        graphs.keep(memory, first.present, 0)
        is_kept = np.zeros((batch, places), dtype=bool)
        is_kept[:, :prompt] = is_real
        found = [first]
        for place in range(self.tokens - 1):
            reading = Reading(embeddings=found[-1].embedding, is_real=one, start=length + place)
            found.append(graphs.next(reading, memory, is_kept))
            graphs.keep(memory, found[-1].present, prompt + place)
            is_kept[:, prompt + place] = True
        return found
