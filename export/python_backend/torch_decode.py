"""Runs OpenVLA's three programs with PyTorch: one CUDA graph per batch size and prompt length holds the whole answer.

Copied into the version's folder as `runner.py`. Vision, prompt, every further token and the action are one launch: nothing comes
back to Python in between, keys and values stay where they are. On a CPU the same steps run without graphs. torch and numpy only.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

INPUTS = ("image", "instruction_ids", "unnorm_index")
OUTPUTS = ("action", "action_tokens", "is_action_token", "token_logprob", "token_entropy")
_WARM_RUNS = 3  # libraries choose their kernels in the first ones, which must not be captured


class Runner:
    """Parameters: `buckets` ("24,32"), `batches` ("1,2,4,8"), `pad_id`, `vocab_size`, `provider` ("cpu" or "cuda"), `device_id`.

    Nothing is differentiated: everything runs in inference mode.
    """

    # What a caller can cause. Ids are checked here, because a wrong one on a GPU would take the whole process down.
    ERRORS = (ValueError,)

    def __init__(self, folder: Path, parameters: dict[str, str]) -> None:
        """Loads the programs and, on a GPU, captures every graph. Raises KeyError for a missing parameter."""
        self._buckets, self._batches = (sorted(map(int, parameters[name].split(","))) for name in ("buckets", "batches"))
        self._pad_id, self._vocab_size = int(parameters["pad_id"]), int(parameters["vocab_size"])
        self._device = _device(parameters)
        programs = {name: _program(folder / f"{name}.pt2", self._device) for name in ("prompt", "continue", "act")}
        self._steps = {name: program.module() for name, program in programs.items()}
        self._picture = _shape(programs["prompt"], "image")[1:]
        self._memory = _shape(programs["continue"], "past")
        self._keys, self._tokens, _ = next(iter(self._steps["act"].buffers())).shape
        self._graphs = self._captured() if self._device.type == "cuda" else {}

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """`image`, `instruction_ids`, `unnorm_index` by name, batch first; all are cut to the bucket of the longest prompt."""
        self._refuse_unknown(inputs)
        given = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in INPUTS]
        given[1] = given[1][:, : self._bucket(inputs["instruction_ids"])]
        largest = self._batches[-1]
        with torch.inference_mode():
            parts = [self._part([one[start : start + largest] for one in given]) for start in range(0, len(given[0]), largest)]
        found = dict(zip(OUTPUTS, (torch.cat(same).numpy() for same in zip(*parts, strict=True)), strict=True))
        return [found[name] for name in outputs]

    def _refuse_unknown(self, inputs: dict[str, np.ndarray]) -> None:
        for name, limit in (("instruction_ids", self._vocab_size), ("unnorm_index", self._keys)):
            if inputs[name].min() < 0 or inputs[name].max() >= limit:
                raise ValueError(f"{name} must lie between 0 and {limit - 1}")

    def _bucket(self, ids: np.ndarray) -> int:
        is_word = (ids != self._pad_id).any(axis=0)
        longest = int(np.flatnonzero(is_word)[-1]) + 1 if is_word.any() else 1
        return next(bucket for bucket in self._buckets if bucket >= longest)

    def _part(self, given: list[Tensor]) -> list[Tensor]:
        """A batch that fits; on a GPU its last row is repeated up to the next size that has a graph."""
        if not self._graphs:
            return list(self._answer(*given))
        count = len(given[0])
        batch = next(size for size in self._batches if size >= count)
        rows = torch.arange(batch).clamp(max=count - 1)
        found = self._graphs[batch, given[1].shape[1]].replay([one[rows] for one in given])
        return [one[:count].cpu() for one in found]

    def _captured(self) -> "dict[tuple[int, int], _Graph]":
        """The largest first, so that the smaller ones fit into its memory."""
        pool = torch.cuda.graph_pool_handle()
        sizes = [(batch, bucket) for batch in reversed(self._batches) for bucket in reversed(self._buckets)]
        with torch.inference_mode():
            return {size: _Graph(self._answer, self._zeros(*size), pool) for size in sizes}

    def _zeros(self, batch: int, bucket: int) -> list[Tensor]:
        image = torch.zeros((batch, *self._picture), dtype=torch.uint8, device=self._device)
        ids, keys = (torch.zeros((batch, width), dtype=torch.int64, device=self._device) for width in (bucket, 1))
        return [image, ids, keys]

    def _answer(self, image: Tensor, ids: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        """The first token sees the prompt and no past (one place that is not real); each further one sees all before it."""
        embeddings, is_real = self._steps["prompt"](image=image, instruction_ids=ids)
        batch, prompt = is_real.shape
        length, one = is_real.sum(dim=1), is_real.new_ones(batch, 1)
        places = prompt + self._tokens - 1
        past = embeddings.new_zeros(batch, *self._memory[1:4], places, self._memory[5])
        is_kept = is_real.new_zeros(batch, places)
        found = [self._next(embeddings, is_real, length - length, past[:, :, :, :, :1], ~one)]
        past[:, :, :, :, :prompt] = found[0][4]
        is_kept[:, :prompt] = is_real
        for place in range(self._tokens - 1):
            found.append(self._next(found[-1][3], one, length + place, past, is_kept))
            past[:, :, :, :, prompt + place] = found[-1][4][:, :, :, :, 0]
            is_kept[:, prompt + place] = True
        tokens, logprobs, entropies = (torch.stack([step[part] for step in found], dim=1) for part in range(3))
        action, is_action = self._steps["act"](tokens=tokens, unnorm_index=keys)
        return action, tokens, is_action, logprobs, entropies

    def _next(self, embeddings: Tensor, is_real: Tensor, start: Tensor, past: Tensor, is_real_past: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self._steps["continue"](
            embeddings=embeddings, is_real=is_real, start=start, past=past, is_real_past=is_real_past
        )
        return found


class _Graph:
    """One answer, recorded: what comes in is copied to where the recording reads, what it wrote is read after it ran."""

    def __init__(self, answer: Callable[..., tuple[Tensor, ...]], given: list[Tensor], pool: tuple[int, int]) -> None:
        self._given = given
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_RUNS):
                answer(*given)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._found = answer(*given)

    def replay(self, given: list[Tensor]) -> tuple[Tensor, ...]:
        """The answer's own memory, overwritten by the next replay of any graph: copy it before that."""
        for place, value in zip(self._given, given, strict=True):
            place.copy_(value)
        self._graph.replay()
        return self._found


def _device(parameters: dict[str, str]) -> torch.device:
    provider = parameters.get("provider", "cpu")
    if provider == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no CUDA device: install its CUDA build and a driver, or serve on the CPU")
    return torch.device(f"cuda:{parameters.get('device_id', '0')}" if provider == "cuda" else "cpu")


def _program(path: Path, device: torch.device) -> torch.export.ExportedProgram:
    program = torch.export.load(path)
    return program if device.type == "cpu" else move_to_device_pass(program, device)


def _shape(program: torch.export.ExportedProgram, name: str) -> list[int]:
    """An input's shape as exported; free axes are there as symbols."""
    return next(list(node.meta["val"].shape) for node in program.graph.nodes if node.op == "placeholder" and node.name == name)
