"""What the control plane costs: CPU per request of its processes, and latency added over calling Triton directly.

Real servers (the embedded stack), one run: direct Triton calls and API calls alternate at the same arrival rate, half of what
the API can take, so that noise of the machine hits both. CPU is counted twice, at capacity and at half of it: between requests
the caches go cold, and `benchmarks.cpu.after_idle` says by how much on this machine. Called by `python -m benchmarks`.
"""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.cpu import Meter, after_idle
from benchmarks.http_client import Pool, post
from benchmarks.open_loop import Load, drive, saturate
from benchmarks.stack import Stack
from export.contract.bicubic import is_compiled
from export.contract.manifest import load_manifest
from export.contract.preprocess import resize
from export.contract.tokenize import InstructionTokenizer

INSTRUCTION = "pick up red cube"
CLIENTS = 8
_TURNS = 4
PICTURE_AT_REST_MS = 0.56  # measured on this kind of machine when nothing else ran on it
Send = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long each part runs, seconds; `rounds` alternations of direct and API load."""

    warm_s: float = 2.0
    saturate_s: float = 4.0
    load_s: float = 5.0
    rounds: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of request body."""

    name: str
    content_type: str
    body: bytes


def workloads(example: Path) -> list[Workload]:
    """The bodies that are measured: JSON and msgpack with a 224×224 JPEG, JSON with a 640×480 JPEG."""
    small, large = (_jpeg(example, size) for size in ((224, 224), (640, 480)))
    return [
        Workload(name="json 224x224", content_type="application/json", body=_json(small)),
        Workload(name="msgpack 224x224", content_type="application/msgpack", body=_msgpack(small)),
        Workload(name="json 640x480", content_type="application/json", body=_json(large)),
    ]


async def measure(stack: Stack, durations: Durations) -> list[dict[str, Any]]:
    """One row per workload: capacity, CPU-ms per request by process kind, latency direct and through the API."""
    async with grpc.aio.insecure_channel(stack.triton) as channel:
        direct = direct_call(channel, stack.model_repository / "tabletop", stack.example)
        return [await _row(stack, workload, direct, durations) for workload in workloads(stack.example)]


async def _row(stack: Stack, workload: Workload, direct: Send, durations: Durations) -> dict[str, Any]:
    pool = Pool(stack.host, stack.port)
    request = post("/v1/inference", body=workload.body, content_type=workload.content_type, key=stack.key)

    async def call() -> bool:
        return (await pool.send(request)).status == 200

    await saturate(call, clients=CLIENTS, duration_s=durations.warm_s)
    at_capacity, at_half = Meter(stack.pids), Meter(stack.pids)
    rates, alone = [], [_picture_alone(stack.example)]
    for _ in range(_TURNS):  # with the yardstick between them: this machine's speed changes within minutes
        with at_capacity:
            rates.append(await saturate(call, clients=CLIENTS, duration_s=durations.saturate_s / _TURNS))
        alone.append(_picture_alone(stack.example))
    capacity = float(np.mean(rates))
    at_capacity.requests = round(capacity * durations.saturate_s)
    direct_loads, api_loads = [], []
    for seed in range(durations.rounds):
        direct_loads.append(await drive(direct, rate_hz=capacity / 2, duration_s=durations.load_s, seed=seed))
        with at_half:
            api_loads.append(await drive(call, rate_hz=capacity / 2, duration_s=durations.load_s, seed=seed))
    pool.close()
    direct_load, api_load = merge(direct_loads), merge(api_loads)
    at_half.requests = len(api_load.latencies_ms) + api_load.failures
    return {
        "workload": workload.name,
        "capacity_rps": round(capacity, 1),
        "cpu_ms_per_request_at_capacity": at_capacity.ms_per_request(),
        "picture_alone_cpu_ms": alone,
        "cpu_ms_per_request": at_half.ms_per_request(),
        **_latencies(direct_load, api_load),
    }


def _latencies(direct: Load, api: Load) -> dict[str, Any]:
    return {
        "rate_rps": round(api.rate_hz, 1),
        "requests": len(api.latencies_ms) + api.failures,
        "failures": api.failures,
        "direct_ms": {f"p{q}": round(direct.percentile(q), 2) for q in (50, 99)},
        "api_ms": {f"p{q}": round(api.percentile(q), 2) for q in (50, 99)},
        "added_ms": {f"p{q}": round(api.percentile(q) - direct.percentile(q), 2) for q in (50, 99)},
    }


def merge(loads: list[Load]) -> Load:
    """Several rounds of the same load as one."""
    return Load(
        rate_hz=loads[0].rate_hz,
        duration_s=sum(load.duration_s for load in loads),
        latencies_ms=np.concatenate([load.latencies_ms for load in loads]),
        failures=sum(load.failures for load in loads),
    )


def direct_call(channel: grpc.aio.Channel, bundle: Path, example: Path) -> Send:
    """A bare gRPC call to Triton with exactly the tensors that the API sends for the same observation."""
    manifest = load_manifest(bundle)
    image = Image.open(io.BytesIO(_jpeg(example, (224, 224)))).convert("RGB")
    assert manifest.instruction is not None
    tokens = InstructionTokenizer(bundle, manifest.instruction).ids(INSTRUCTION)
    tensors: list[tuple[str, str, np.ndarray[Any, Any]]] = [
        (manifest.primary_camera.tensor, "UINT8", resize(image, manifest.primary_camera)),
        (manifest.instruction.tensor, "INT64", tokens),
    ]
    if manifest.state is not None and manifest.state.mask_tensor is not None:
        tensors.append((manifest.state.tensor, "FP32", np.zeros(len(manifest.state.names), np.float32)))
        tensors.append((manifest.state.mask_tensor, "FP32", np.zeros(1, np.float32)))
    request = service_pb2.ModelInferRequest(
        model_name=manifest.policy,
        inputs=[
            service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=kind, shape=[1, *array.shape])
            for name, kind, array in tensors
        ],
        raw_input_contents=[array.tobytes() for _, _, array in tensors],
    )
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    async def call() -> bool:
        answer = await stub.ModelInfer(request)
        return bool(answer.raw_output_contents)

    return call


def machine(stack: Stack) -> dict[str, float]:
    """What Pillow takes to decode a 224×224 picture and bring it to 128×128: warm, and after the core was idle. CPU-ms.

    A yardstick, so never by code of ours: a service that became faster does not shorten it.
    """
    return {f"after_{idle_ms}_ms_idle": _picture_alone(stack.example, idle_s=idle_ms / 1e3) for idle_ms in (0, 2, 10, 20)}


def _picture_alone(example: Path, *, idle_s: float = 0.0) -> float:
    picture = _jpeg(example, (224, 224))

    def work() -> None:
        np.asarray(Image.open(io.BytesIO(picture)).convert("RGB").resize((128, 128), Image.Resampling.BICUBIC))

    return round(after_idle(work, idle_s=idle_s), 3)


def _jpeg(example: Path, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.open(example).convert("RGB").resize(size).save(out, "JPEG", quality=90)
    return out.getvalue()


def _json(image: bytes) -> bytes:
    return msgspec.json.encode({"image": base64.b64encode(image).decode(), "instruction": INSTRUCTION})


def _msgpack(image: bytes) -> bytes:
    return msgspec.msgpack.encode({"image": image, "instruction": INSTRUCTION})


def main(stack: Stack, durations: Durations) -> dict[str, Any]:
    """Synchronous entry for `python -m benchmarks`."""
    alone, rows = machine(stack), asyncio.run(measure(stack, durations))
    own = {"resized_by_library": is_compiled()}
    return {
        **own,
        "picture_alone_cpu_ms": alone,
        "over_the_picture": over_the_picture(rows),
        "rows": rows,
    }


def over_the_picture(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """CPU of the API processes at capacity, as a multiple of what the 224×224 picture alone costs on this machine meanwhile.

    A machine that is slow today is slow for both; times `PICTURE_AT_REST_MS` it is the cost on one at rest.
    """
    ratios = {
        row["workload"]: row["cpu_ms_per_request_at_capacity"]["api"] / float(np.median(row["picture_alone_cpu_ms"]))
        for row in rows
    }
    return {
        name: {"ratio": round(ratio, 2), "at_rest_ms": round(ratio * PICTURE_AT_REST_MS, 2)}
        for name, ratio in ratios.items()
        if name.endswith("224x224")
    }
