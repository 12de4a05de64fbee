"""Whether one customer's burst reaches another's latency: a steady robot alone, beside a burst, and that without a fair queue.

Real servers (the embedded stack) and a policy that takes 20 ms per forward, one request at a time in each of two instances, so
that the policy is what is short and not this machine's CPU. Without a fair queue is the same service with more slots than there
can be requests: everything then goes to Triton in the order of arrival. Called by `python -m benchmarks`.
"""

import asyncio
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.control_plane import workloads
from benchmarks.http_client import Pool, post
from benchmarks.open_loop import Load, drive
from benchmarks.stack import ROOT, Stack, running_stack, vlaapi

FORWARD_MS, INSTANCES, PROCESSES = 20, 2, 2
BURST, ROBOT_HZ = 100, 10.0
BUDGET_MS = 200  # the objective that the API's histogram has an edge at
SLOTS = 2 * INSTANCES // PROCESSES  # as docs/POLICIES.md advises: twice what can run at once, over all processes
NO_LIMIT = 100_000
_PAUSE_S = 0.25  # of a client of the burst that was turned away and not told for how long
_RETRY_AFTER = re.compile(rb"retry-after: (\d+)", re.I)

_MODEL = f"""
import time
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for _ in requests:
            time.sleep({FORWARD_MS / 1e3})
            answers.append(pb.InferenceResponse([pb.Tensor("action", np.zeros((1, 8, 7), np.float32))]))
        return answers
"""


def main(seconds: float) -> dict[str, Any]:
    """The victim's latencies in the three cases, and what the burst got meanwhile."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        repository = _slow_policy(Path(folder) / "models")
        fair = _measured(Path(folder) / "fair", repository, SLOTS, seconds)
        arrival = _measured(Path(folder) / "arrival", repository, NO_LIMIT, seconds)
    alone, beside, unfair = (found["robot_ms"] for found in (fair["alone"], fair["beside_burst"], arrival["beside_burst"]))
    return {
        "policy": {"forward_ms": FORWARD_MS, "instances": INSTANCES, "max_batch_size": 1},
        "burst_clients": BURST,
        "robot_hz": ROBOT_HZ,
        "budget_p99_ms": BUDGET_MS,
        "fair_queue": {"slots_per_process": SLOTS, **fair},
        "order_of_arrival": arrival,
        "ratios": {
            "p99_beside_burst_over_alone": _ratio(beside["p99"], alone["p99"]),
            "p99_order_of_arrival_over_fair_queue": _ratio(unfair["p99"], beside["p99"]),
        },
    }


def _ratio(one: float | None, other: float | None) -> float | None:
    """None where nothing was answered in time."""
    return None if one is None or other is None else round(one / other, 2)


def _measured(state: Path, repository: Path, slots: int, seconds: float) -> dict[str, Any]:
    settings = {"VLA_MODEL_REPOSITORY": str(repository), "VLA_TRITON_IN_FLIGHT": str(slots), "VLA_API_PROCESSES": str(PROCESSES)}
    with running_stack(state, **settings) as stack:
        return asyncio.run(_cases(stack, seconds))


async def _cases(stack: Stack, seconds: float) -> dict[str, Any]:
    pool = Pool(stack.host, stack.port)
    request, burst = _request(stack, _robot_key(stack)), _request(stack, stack.key)

    async def robot() -> bool:
        return (await pool.send(request)).status == 200

    await drive(robot, rate_hz=ROBOT_HZ, duration_s=2.0, seed=0)
    alone = await drive(robot, rate_hz=ROBOT_HZ, duration_s=seconds, seed=1)
    stop, answered = asyncio.Event(), [0]
    clients = [asyncio.create_task(_client(pool, burst, stop, answered)) for _ in range(BURST)]
    await asyncio.sleep(2.0)
    before = answered[0]
    beside = await drive(robot, rate_hz=ROBOT_HZ, duration_s=seconds, seed=1)
    got = answered[0] - before
    stop.set()
    await asyncio.gather(*clients)
    pool.close()
    return {"alone": _told(alone), "beside_burst": {**_told(beside), "burst_answers_per_s": round(got / seconds, 1)}}


async def _client(pool: Pool, request: bytes, stop: asyncio.Event, answered: list[int]) -> None:
    while not stop.is_set():
        reply = await pool.send(request)
        if reply.status == 200:
            answered[0] += 1
        else:
            found = _RETRY_AFTER.search(reply.head)
            await asyncio.sleep(int(found[1]) if found else _PAUSE_S)


def _told(load: Load) -> dict[str, Any]:
    return {
        "requests": len(load.latencies_ms) + load.failures,
        "failures": load.failures,
        "robot_ms": {f"p{q}": round(load.percentile(q), 1) if len(load.latencies_ms) else None for q in (50, 99)},
    }


def _request(stack: Stack, key: str) -> bytes:
    load = next(one for one in workloads(stack.example) if one.name.startswith("msgpack"))
    return post("/v1/inference", body=load.body, content_type=load.content_type, key=key)


def _robot_key(stack: Stack) -> str:
    who = ("--company-name", "One Robot", "--email", "robot@example.com", "--tier", "pro", "--per-minute", "100000")
    created: dict[str, str] = msgspec.json.decode(vlaapi("customers", "create", "--json", *who, environment=stack.environment))
    return created["api_key"]


def _slow_policy(repository: Path) -> Path:
    """The shipped policy's bundle with another model behind its contract."""
    place = repository / "tabletop"
    shutil.copytree(ROOT / "model_repository" / "tabletop", place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "1" / "model.py").write_text(_MODEL)
    config = (place / "config.pbtxt").read_text()
    config = re.sub(r"^model_warmup \{.*?^\}\n", "", config, flags=re.S | re.M)
    (place / "config.pbtxt").write_text(re.sub(r"max_batch_size: \d+", "max_batch_size: 1", config))
    return repository
