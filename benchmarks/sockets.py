"""What the WebSocket doors give: a robot's steady rate, many robots, CPU per request, connection reuse, and batching.

Real servers, one run. The openpi door is asked with raw 224×224 frames, packed once, so that the generator costs little, for the
shipped policy, which wants them at 128×128, and for one that takes them as they are. Batching is measured with a policy that
takes 20 ms for a batch of any size, beside a server that runs requests one after another, as openpi's does, with the same 20 ms;
the figure is the ratio of the two. Called by `python -m benchmarks`.
"""

import asyncio
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from PIL import Image
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.control_plane import INSTRUCTION, machine
from benchmarks.cpu import Meter
from benchmarks.http_client import Connection, Reply, post
from benchmarks.open_loop import saturate
from benchmarks.stack import ROOT, Stack, free_ports, running_stack
from benchmarks.still_policies import AT_ONCE, CLIENTS, FORWARD_S, POLICY, write_repository
from control_plane.protocols.numpy_msgpack import encode

RATE_HZ = 50.0
BARE_AT_REST_MS = 0.115  # the middle of what such a server was measured to need on this kind of machine at rest
BUDGETS = {
    "cpu": "WebSocket door ≤ 1.0 ms CPU per request of the API process",
    "rate": "one robot at 50 Hz holds its rate",
    "batching": "≥ 4 × a server that runs requests one after another, at 8 clients",
}
Ask = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long each part runs, seconds."""

    warm_s: float = 2.0
    load_s: float = 5.0
    robot_s: float = 10.0


def main(durations: Durations) -> dict[str, Any]:
    """Everything, as a dict of plain numbers."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        found: dict[str, Any] = {"load_before": os.getloadavg()[0], "budgets": BUDGETS}
        with running_stack(Path(folder) / "state") as stack, _one_at_a_time(forward_s=0.0) as bare:
            found["picture_alone_cpu_ms"] = machine(stack)
            found |= asyncio.run(_shipped(stack, durations))
            found["bare"] = asyncio.run(_beside_bare(stack, bare, durations))
        repository = write_repository(Path(folder) / "repository", shipped=ROOT / "model_repository" / "tabletop")
        still = {"VLA_MODEL_REPOSITORY": str(repository), "VLA_DEFAULT_POLICY": POLICY}
        with running_stack(Path(folder) / "state-still", **still) as stack:
            with _one_at_a_time(forward_s=0.0) as bare:
                found["at_once"] = asyncio.run(_beside_bare(stack, bare, durations, model=AT_ONCE))
            with _one_at_a_time(forward_s=FORWARD_S) as other:
                found["batching"] = asyncio.run(_batching(stack, other.port, durations))
        # The bare server is one process. Two of ours on two cores find each other's leavings in the caches.
        alone: list[tuple[str, str | None, dict[str, str]]] = [("bare", None, {}), ("at_once", AT_ONCE, still)]
        for name, model, settings in alone:
            with (
                running_stack(Path(folder) / f"state-one-{name}", VLA_API_PROCESSES="1", **settings) as stack,
                _one_at_a_time(forward_s=0.0) as bare,
            ):
                found[f"{name}_one_process"] = asyncio.run(_beside_bare(stack, bare, durations, model=model))
        return found


async def _shipped(stack: Stack, durations: Durations) -> dict[str, Any]:
    frames = {"raw 224x224": _frame(224), "raw 128x128": _frame(128)}
    rows = [await _robots(stack, name, frame, count, durations) for name, frame in frames.items() for count in (1, 8, 32)]
    return {
        "robot_at_50_hz": await _steady(stack, frames["raw 224x224"], durations),
        "robots": rows,
        "connections": await _connections(stack, durations),
    }


def _frame(side: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return encode({"observation/image": pixels, "prompt": INSTRUCTION})


def _url(stack: Stack, model: str | None = None) -> str:
    return f"ws://{stack.host}:{stack.port}/openpi/policy" + ("" if model is None else f"?model={model}")


async def _robot(stack: AsyncExitStack, url: str, key: str | None) -> ClientConnection:
    headers = {} if key is None else {"Authorization": f"Api-Key {key}"}
    robot = await stack.enter_async_context(connect(url, additional_headers=headers, compression=None, max_size=None))
    await robot.recv()
    return robot


async def _asked(robot: ClientConnection, frame: bytes) -> bool:
    await robot.send(frame)
    return isinstance(await robot.recv(), bytes)


async def _steady(stack: Stack, frame: bytes, durations: Durations) -> dict[str, Any]:
    """One robot that asks by its own clock; a question that finds the last one unanswered is late."""
    async with AsyncExitStack() as open_:
        robot = await _robot(open_, _url(stack), stack.key)
        await saturate(lambda: _asked(robot, frame), clients=1, duration_s=durations.warm_s)
        period_s, latencies_ms, refused = 1 / RATE_HZ, [], 0
        meter, began = Meter(stack.pids), time.perf_counter() + 0.02
        with meter:
            for step in range(int(durations.robot_s * RATE_HZ)):
                due = began + step * period_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                refused += not await _asked(robot, frame)
                latencies_ms.append((time.perf_counter() - due) * 1e3)
        took_s = time.perf_counter() - began
    meter.requests = len(latencies_ms)
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return {
        "wanted_hz": RATE_HZ,
        "held_hz": round(len(latencies_ms) / took_s, 2),
        "late": sum(latency > period_s * 1e3 for latency in latencies_ms),
        "refused": refused,
        "requests": len(latencies_ms),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "cpu_ms_per_request": meter.ms_per_request(),
    }


async def _robots(stack: Stack, name: str, frame: bytes, count: int, durations: Durations) -> dict[str, Any]:
    """Robots that ask again as soon as they are answered."""
    async with AsyncExitStack() as open_:
        robots = [await _robot(open_, _url(stack), stack.key) for _ in range(count)]
        return {"frame": name, "robots": count, **await _saturated(robots, frame, durations, stack.pids)}


async def _saturated(
    robots: list[ClientConnection], frame: bytes, durations: Durations, pids: dict[str, list[int]]
) -> dict[str, Any]:
    idle = list(robots)
    latencies_ms: list[float] = []

    async def ask() -> bool:
        robot, began = idle.pop(), time.perf_counter()
        succeeded = await _asked(robot, frame)
        latencies_ms.append((time.perf_counter() - began) * 1e3)
        idle.append(robot)
        return succeeded

    await saturate(ask, clients=len(robots), duration_s=durations.warm_s)
    latencies_ms.clear()
    meter = Meter(pids)
    with meter:
        rate = await saturate(ask, clients=len(robots), duration_s=durations.load_s)
    meter.requests = len(latencies_ms)
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return {
        "requests_per_s": round(rate, 1),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "cpu_ms_per_request": meter.ms_per_request(),
    }


async def _connections(stack: Stack, durations: Durations) -> dict[str, Any]:
    """One client, one request after another: a connection for each, one kept for all, and a socket."""
    request = post("/v1/inference", body=_body(), content_type="application/msgpack", key=stack.key)
    loop = asyncio.get_running_loop()

    async def opened() -> Connection:
        return (await loop.create_connection(Connection, stack.host, stack.port))[1]

    async def anew() -> bool:
        connection = await opened()
        reply: Reply = await connection.send(request)
        connection.close()
        return reply.status == 200

    rows = {"a connection per request": await _alone(anew, durations)}
    kept = await opened()  # not before: nginx ends a connection on which nothing is asked

    async def reused() -> bool:
        return (await kept.send(request)).status == 200

    rows["one kept connection"] = await _alone(reused, durations)
    kept.close()
    async with AsyncExitStack() as open_:
        robot, frame = await _robot(open_, _url(stack), stack.key), _frame(224)
        rows["one WebSocket, raw frame"] = await _alone(lambda: _asked(robot, frame), durations)
    return rows


async def _alone(ask: Ask, durations: Durations) -> dict[str, Any]:
    latencies_ms: list[float] = []

    async def timed() -> bool:
        began = time.perf_counter()
        succeeded = await ask()
        latencies_ms.append((time.perf_counter() - began) * 1e3)
        return succeeded

    await saturate(timed, clients=1, duration_s=durations.warm_s)
    latencies_ms.clear()
    rate = await saturate(timed, clients=1, duration_s=durations.load_s)
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return {"requests_per_s": round(rate, 1), "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def _body() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (14, 14, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((224, 224)).save(file, "JPEG")
    return msgspec.msgpack.encode({"image": file.getvalue(), "instruction": INSTRUCTION})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Other:
    """The other server, in a process of its own."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


@contextmanager
def _one_at_a_time(*, forward_s: float) -> Iterator[_Other]:
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.one_at_a_time", str(port), str(forward_s)], cwd=ROOT)
    try:
        _wait_for(port)
        yield _Other(port=port, pid=process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until:
            raise TimeoutError(f"nothing listens on {port}")
        time.sleep(0.05)


async def _beside_bare(stack: Stack, bare: _Other, durations: Durations, *, model: str | None = None) -> dict[str, Any]:
    """CPU per request beside a server with no key, limit, policy or guard, by turns: a slow machine slows both.

    What the door would cost on a machine at rest is the ratio times what such a server costs there (DESIGN §9: 0.09–0.14 ms).
    """
    frame = _frame(224)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(3):
        for found, url, key, pids in (
            (theirs, bare.url, None, {"api": [bare.pid]}),
            (ours, _url(stack, model), stack.key, stack.pids),
        ):
            row = await _rate(url, key, frame, durations, pids)
            found.append(row["cpu_ms_per_request"]["api"])
    ratio = float(np.median(np.array(ours) / np.array(theirs)))
    return {"bare_cpu_ms": theirs, "our_cpu_ms": ours, "ratio": round(ratio, 2), "at_rest_ms": round(ratio * BARE_AT_REST_MS, 2)}


async def _batching(stack: Stack, port: int, durations: Durations) -> dict[str, Any]:
    """Both by turns, three times, so that the machine's noise hits both."""
    frame = _frame(224)
    ours, theirs = [], []
    for _ in range(3):
        theirs.append(await _rate(f"ws://127.0.0.1:{port}", None, frame, durations, {}))
        ours.append(await _rate(_url(stack), stack.key, frame, durations, stack.pids))
    batches = await _batch_sizes(stack)
    ratio = sum(row["requests_per_s"] for row in ours) / sum(row["requests_per_s"] for row in theirs)
    return {
        "clients": CLIENTS,
        "forward_ms": FORWARD_S * 1e3,
        "one_after_another": theirs,
        "ours": ours,
        "ratio": round(ratio, 2),
        "batch_sizes": batches,
    }


async def _rate(url: str, key: str | None, frame: bytes, durations: Durations, pids: dict[str, list[int]]) -> dict[str, Any]:
    async with AsyncExitStack() as open_:
        robots = [await _robot(open_, url, key) for _ in range(CLIENTS)]
        return await _saturated(robots, frame, durations, pids)


async def _batch_sizes(stack: Stack) -> dict[str, int]:
    """How often Triton ran which batch."""
    url = f"http://127.0.0.1:{stack.environment['VLA_TRITON_HTTP_PORT']}/v2/models/{POLICY}/stats"
    async with httpx.AsyncClient() as client:
        (stats,) = (await client.get(url)).json()["model_stats"]
    return {str(row["batch_size"]): int(row["compute_infer"]["count"]) for row in stats["batch_stats"]}


def tables(found: dict[str, Any]) -> list[Table]:
    """For the terminal."""
    steady, batching = found["robot_at_50_hz"], found["batching"]
    rate = _table(
        "one robot that asks at 50 Hz over the openpi door", "held Hz", "late", "refused", "p50 ms", "p99 ms", "API CPU ms"
    )
    rate.add_row(*_texts(steady, "held_hz", "late", "refused", "p50_ms", "p99_ms"), _api(steady))
    robots = _table("robots that ask again at once", "frame", "robots", "requests/s", "p50 ms", "p99 ms", "API CPU ms", "budget")
    for row in found["robots"]:
        robots.add_row(*_texts(row, "frame", "robots", "requests_per_s", "p50_ms", "p99_ms"), _api(row), "≤ 1.0")
    kept = _table("one client, one request after another", "connection", "requests/s", "p50 ms", "p99 ms")
    for name, row in found["connections"].items():
        kept.add_row(name, *_texts(row, "requests_per_s", "p50_ms", "p99_ms"))
    batches = _table(
        f"a policy of 20 ms, {CLIENTS} clients: {batching['ratio']} × (budget 4)", "server", "requests/s", "p50 ms", "p99 ms"
    )
    for name in ("one_after_another", "ours"):
        for row in batching[name]:
            batches.add_row(name.replace("_", " "), *_texts(row, "requests_per_s", "p50_ms", "p99_ms"))
    policies = {"bare": "the shipped policy, which takes 128×128", "at_once": "a policy that takes 224×224, as openpi's do"}
    beside = [_bare_table(found[name], what) for name, what in policies.items()]
    beside += [_bare_table(found[f"{name}_one_process"], f"{what}; one API process") for name, what in policies.items()]
    return [rate, robots, *beside, kept, batches]


def _bare_table(found: dict[str, Any], policy: str) -> Table:
    title = (
        f"8 robots, raw 224×224, {policy}: CPU ms per request {found['ratio']} × a bare server, "
        f"{found['at_rest_ms']} ms at rest (budget 1.0)"
    )
    table = _table(title, "server", "first", "second", "third")
    for name, row in (("bare", found["bare_cpu_ms"]), ("ours", found["our_cpu_ms"])):
        table.add_row(name, *(str(value) for value in row))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _texts(row: dict[str, Any], *names: str) -> list[str]:
    return [str(row[name]) for name in names]


def _api(row: dict[str, Any]) -> str:
    return str(row["cpu_ms_per_request"]["api"])
