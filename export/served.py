"""Proves a policy through a running Triton: its golden vectors over gRPC must come back as the original network answered.

One by one, in requests of several examples, and many requests at once, so that Triton forms batches of its own; of a slow policy
only as many as its queue lets wait. It needs tritonclient, no torch and no ONNX Runtime. Used by `vlaapi export verify --triton`
and by the tests.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from export.contract.manifest import Manifest, load_manifest
from export.golden import Golden, load_golden
from export.in_process import Rows, groups
from export.parity import Agreement, Arrays, measure, worst
from export.progress import counted

TIMEOUT_S = 120.0
AT_ONCE = 32  # under the queue's bound of 64
LARGEST_REQUEST = 8  # examples
_LOOKS, _BETWEEN_LOOKS_S = 40, 0.05


class TritonFailed(Exception):  # noqa: N818 -- reads as what happened
    """Triton could not be asked, or answered with an error; the text is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedProof:
    """One agreement per output, and the size of the largest batch that Triton made of requests that came at once."""

    agreements: tuple[Agreement, ...]
    largest_batch: int


def verify_served(folder: Path, address: str) -> ServedProof:
    """Asks the Triton at `address` (host:port, gRPC). Raises ParityBroken, GoldenUnfit or TritonFailed."""
    manifest, golden = load_manifest(folder), load_golden(folder)
    golden.refuse_unfit(manifest)
    try:
        return asyncio.run(_verify(manifest, golden, address))
    except InferenceServerException as error:
        raise TritonFailed(f"Triton at {address}: {_first_line(str(error.message()))}") from None


async def ask(
    client: triton.InferenceServerClient, manifest: Manifest, inputs: Arrays, *, timeout_s: float = TIMEOUT_S
) -> dict[str, NDArray[np.generic]]:
    """One request; arrays are batch first. Raises tritonclient's InferenceServerException."""
    tensors = []
    for name, value in inputs.items():
        tensor = triton.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(np.ascontiguousarray(value))
        tensors.append(tensor)
    wanted = [output.tensor for output in manifest.outputs]
    answer = await client.infer(
        manifest.policy,
        tensors,
        model_version=str(manifest.version),
        outputs=[triton.InferRequestedOutput(name) for name in wanted],
        client_timeout=timeout_s,
    )
    return {name: answer.as_numpy(name) for name in wanted}


async def _verify(manifest: Manifest, golden: Golden, address: str) -> ServedProof:
    async with triton.InferenceServerClient(address) as client:
        config = await _config(client, manifest)
        largest = min(LARGEST_REQUEST, max(1, int(config.max_batch_size)))
        one_by_one, together = groups(golden.count, 1), groups(golden.count, largest)
        with counted("asking Triton", 2 * len(one_by_one) + len(together)) as tick:
            pace = _Pace(client=client, manifest=manifest, golden=golden, tick=tick)
            runs = [await pace.run(one_by_one)]
            answer_s = median(pace.took_s)
            patient_s = max(TIMEOUT_S, 2 * largest * answer_s)
            instances = sum(one.count for one in config.instance_group)
            at_once = how_many_at_once(answer_s, _queue_s(config), instances=instances)
            runs.append(await pace.run(together, timeout_s=patient_s))
            before = await _runs_by_size(client, manifest)
            runs.append(await pace.run(one_by_one, at_once=at_once, timeout_s=patient_s))
            after = await _counted(client, manifest, before, golden.count)
        agreements = worst([measure(run, golden.outputs, manifest, manifest.served_variant) for run in runs])
        joined = [size for size, count in after.items() if count > before.get(size, 0)]
        return ServedProof(agreements=agreements, largest_batch=max(joined, default=0))


def how_many_at_once(answer_s: float, queue_s: float | None, *, instances: int) -> int:
    """Requests that may be on their way at once, so that none waits longer than the queue allows, even one after another.

    `answer_s` is what a lone one takes. With no more requests than instances nobody waits.
    """
    if queue_s is None:
        return AT_ONCE
    return min(AT_ONCE, max(instances, 1, int(queue_s / max(answer_s, 1e-3))))


@dataclass(slots=True, kw_only=True)
class _Pace:
    """Asks for the golden vectors, and remembers how long each answer took."""

    client: triton.InferenceServerClient
    manifest: Manifest
    golden: Golden
    tick: Callable[[], None]
    took_s: list[float] = field(default_factory=list)

    async def run(self, rows: list[Rows], *, at_once: int = 1, timeout_s: float = TIMEOUT_S) -> Arrays:
        """The answers in the examples' own order; at most `at_once` requests are on their way."""
        gate = asyncio.Semaphore(at_once)

        async def one(group: Rows) -> Arrays:
            async with gate:
                began = time.perf_counter()
                inputs = {name: value[group] for name, value in self.golden.inputs.items()}
                found = await ask(self.client, self.manifest, inputs, timeout_s=timeout_s)
                self.took_s.append(time.perf_counter() - began)
            self.tick()
            return found

        parts = await asyncio.gather(*(one(group) for group in rows))
        order = np.argsort(np.concatenate(rows))
        return {output.tensor: np.concatenate([part[output.tensor] for part in parts])[order] for output in self.manifest.outputs}


async def _config(client: triton.InferenceServerClient, manifest: Manifest) -> Any:
    """The model's configuration as Triton has it."""
    found: Any = await client.get_model_config(manifest.policy, str(manifest.version))
    return found.config


def _queue_s(config: Any) -> float | None:
    """How long a request may wait; None: for ever."""
    waits_us = config.dynamic_batching.default_queue_policy.default_timeout_microseconds
    return waits_us / 1e6 if waits_us else None


async def _runs_by_size(client: triton.InferenceServerClient, manifest: Manifest) -> dict[int, int]:
    """How many runs of each batch size there were since Triton started."""
    found: Any = await client.get_inference_statistics(manifest.policy, str(manifest.version))
    return {int(one.batch_size): int(one.compute_infer.count) for one in found.model_stats[0].batch_stats}


async def _counted(
    client: triton.InferenceServerClient, manifest: Manifest, before: dict[int, int], examples: int
) -> dict[int, int]:
    """The same once `examples` more are in it: Triton answers a request first and counts it a little later."""
    for _ in range(_LOOKS):
        after = await _runs_by_size(client, manifest)
        if sum(size * (count - before.get(size, 0)) for size, count in after.items()) >= examples:
            break
        await asyncio.sleep(_BETWEEN_LOOKS_S)
    return after


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
