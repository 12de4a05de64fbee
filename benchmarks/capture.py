"""What keeping training data costs and how fast it is: paired requests with and without capture, frames a second into the object
store and from there into a LeRobotDataset v3. `python -m benchmarks.capture`.

Capture is told apart by the customer's policy in one and the same processes, phases in turn, so that both halves of a pair meet
the same machine; a third side, again without capture, says how much two equal sides differ. Results go to results/capture.json.
"""

import asyncio
import base64
import io
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import msgspec
import numpy as np
import typer
from PIL import Image

from benchmarks.control_plane import merge
from benchmarks.cpu import Meter
from benchmarks.http_client import Pool, post
from benchmarks.open_loop import Load, drive
from benchmarks.stack import ROOT, Stack, free_block, running_stack, vlaapi
from control_plane.capture.collect import Bounds, LocalCapture
from control_plane.capture.sample import Sample, Shot, Terms, Words
from control_plane.capture.ship import Shipper
from control_plane.capture.storage import set_up
from control_plane.datasets.build import build
from control_plane.datasets.select import Asked
from control_plane.db import create_engine
from control_plane.logs import create_log
from control_plane.metrics import create_metrics
from control_plane.migrations import upgrade
from control_plane.objects import create_objects
from control_plane.sampling import Rules
from control_plane.usage.request_id import mint
from deploy.embedded import child
from deploy.embedded.binaries import program
from deploy.embedded.postgres import Cluster, postgres
from deploy.embedded.seaweedfs import PORTS, Weed, seaweedfs
from deploy.embedded.server import Port, Server, wait_until_ready
from lerobot_v3.facts import DatasetFacts, Numbers, Video
from lerobot_v3.writer import DatasetWriter, Episode

RESULT = ROOT / "benchmarks" / "results" / "capture.json"
BUDGETS = {
    "capture_cpu_ms_per_request": "≤ 0.2, and nothing to p99 beyond noise",
    "ship_frames_per_s": "≥ 200",
    "build_wall_s_per_10000_frames": "≤ 60 on one core",
}
RATE_HZ, PHASE_S, WARM_S = 30.0, 8.0, 2.0
_WORDS = Words(action=("a",) * 7, action_kind="ee_delta_rotvec", state=(), control_hz=10.0)
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One side for some seconds."""

    cpu_ms: float  # of all API processes, per request
    requests: int
    load: Load


def main(
    only: Annotated[str | None, typer.Option(help="paired, alone, ship or dataset; all of them without it.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of phases: without capture, without it again, with it.")] = 12,
    frames: Annotated[int, typer.Option(help="Frames to ship, and to write into a dataset.")] = 10_000,
) -> None:
    """Measures on real servers of its own."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "paired": lambda: paired(rounds),
        "alone": alone,
        "ship": lambda: asyncio.run(ship(frames)),
        "dataset": lambda: dataset(frames),
    }
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name, measure in parts.items():
        if only in (None, name):
            found[name] = {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "load_average": os.getloadavg()[0], **measure()}
            print(name, json.dumps(found[name], indent=2))
    RESULT.write_text(json.dumps({**found, "budgets": BUDGETS}, indent=2) + "\n")


def a_jpeg(seed: int) -> bytes:
    """Some 15 KB of 224×224, as a camera makes them: shapes and noise."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (14, 14, 3), np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((224, 224), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = np.clip(picture + random.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=88)
    return out.getvalue()


def paired(rounds: int) -> dict[str, Any]:
    """The same load by a customer who trains and by two who do not, in turn; CPU of the API processes and latency of each."""
    scratch = tempfile.TemporaryDirectory(prefix="vla-bench-")
    with scratch as folder, running_stack(Path(folder) / "state", VLA_CAPTURE_RULES="every=1") as stack:
        keys = {"without": stack.key, "again": _customer_of(stack, "Again"), "with": _customer_of(stack, "Trains", trains=True)}
        return asyncio.run(_rounds(stack, keys, rounds))


def _customer_of(stack: Stack, name: str, *, trains: bool = False) -> str:
    who = ("--company-name", name, "--email", f"{name.lower()}@example.com", "--tier", "enterprise")
    limits = ("--per-minute", "1000000", "--per-day", "100000000", "--concurrency", "10000")
    made = json.loads(vlaapi("customers", "create", "--json", *who, *limits, environment=stack.environment))
    if trains:
        agreed = ("train", "--given-by", "a benchmark")
        vlaapi("customers", "set-data-policy", made["customer"]["id"], *agreed, environment=stack.environment)
    key: str = made["api_key"]
    return key


async def _rounds(stack: Stack, keys: dict[str, str], rounds: int) -> dict[str, Any]:
    """One phase of each side a round, in another order each time: what differs between sides is paired within a round."""
    pool, api = Pool(stack.host, stack.port), {"api": stack.pids["api"]}
    picture = a_jpeg(1)
    image = base64.b64encode(picture).decode()
    phases: dict[str, list[Phase]] = {name: [] for name in keys}
    names = list(keys)
    for number in range(rounds):
        turn = number % len(names)
        for name in (names[turn:] + names[:turn])[:: 1 if number % 2 else -1]:
            body = msgspec.json.encode({"image": image, "instruction": "pick up red cube", "session_id": f"{name}-{number}"})
            request = post("/v1/inference", body=body, content_type="application/json", key=keys[name])

            async def call(request: bytes = request) -> bool:
                return (await pool.send(request)).status == 200

            await drive(call, rate_hz=RATE_HZ, duration_s=WARM_S, seed=number)
            meter = Meter(api)
            with meter:
                load = await drive(call, rate_hz=RATE_HZ, duration_s=PHASE_S, seed=number)
            meter.requests = len(load.latencies_ms) + load.failures
            phases[name].append(Phase(cpu_ms=meter.ms_per_request()["api"], requests=meter.requests, load=load))
    pool.close()
    sent = sum(round(RATE_HZ * seconds) for seconds in (WARM_S, PHASE_S)) * rounds
    return {
        "rounds": rounds,
        "requests_per_side": sum(phase.requests for phase in phases["with"]),
        "picture_bytes": len(picture),
        "captured_of_sent": f"{await _captured(stack, sent)} of {sent}",
        "failures": {name: sum(phase.load.failures for phase in of) for name, of in phases.items()},
        "api_cpu_ms_per_request": {name: _spread([phase.cpu_ms for phase in of]) for name, of in phases.items()},
        "p50_ms": {name: _spread([phase.load.percentile(50) for phase in of]) for name, of in phases.items()},
        "p99_ms": {name: _spread([phase.load.percentile(99) for phase in of]) for name, of in phases.items()},
        "p99_ms_of_all": {name: round(merge([phase.load for phase in of]).percentile(99), 1) for name, of in phases.items()},
        "with_less_without": _differences(phases, "with"),
        "noise_again_less_without": _differences(phases, "again"),
    }


def _differences(phases: dict[str, list["Phase"]], side: str) -> dict[str, Any]:
    pairs = list(zip(phases[side], phases["without"], strict=True))
    return {
        "api_cpu_ms": _spread([one.cpu_ms - other.cpu_ms for one, other in pairs]),
        "p50_ms": _spread([one.load.percentile(50) - other.load.percentile(50) for one, other in pairs]),
        "p99_ms": _spread([one.load.percentile(99) - other.load.percentile(99) for one, other in pairs]),
    }


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return {"median": round(float(middle), 3), "quarter": round(float(low), 3), "three_quarters": round(float(high), 3)}


async def _captured(stack: Stack, sent: int) -> int:
    """How many frames came to be in the object store: a side that captured nothing would look cheap."""
    lines = (stack.state_dir / "env").read_text().splitlines()
    url = next(line.partition("=")[2] for line in lines if line.startswith("VLA_DATABASE_URL="))
    connection = await asyncpg.connect(url)
    try:
        for _ in range(120):
            found: int = await connection.fetchval("SELECT count(*) FROM captured_frames")
            if found >= sent:
                break
            await asyncio.sleep(1)
    finally:
        await connection.close()
    return found


def alone(turns: int = 8) -> dict[str, Any]:
    """The request's and the writer's share of capture without the request: samples at the same pace, less the pace alone."""
    pictures = [a_jpeg(seed) for seed in range(8)]
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        bounds = Bounds(spool_bytes=10**9, seal_s=15)
        collector = LocalCapture(Path(folder), rules=Rules(), bounds=bounds, metrics=create_metrics(), log=create_log("error"))
        collector.start()
        customer = mint()
        spent: dict[bool, list[float]] = {}
        for number in range(2 * turns):
            is_with, began = number % 2 == 1, time.process_time()
            for tick in range(100):
                if is_with:
                    collector.offer(_sample(customer, tick, pictures))
                time.sleep(1 / RATE_HZ)
            spent.setdefault(is_with, []).append((time.process_time() - began) * 1e3 / 100)
        collector.close(timeout_s=60)
    return {
        "frames": 100 * turns,
        "cpu_ms_per_frame": _spread([one - other for one, other in zip(spent[True], spent[False], strict=True)]),
    }


async def ship(frames: int) -> dict[str, Any]:
    """Local files of captured frames of eight sessions into SeaweedFS (encrypted) and PostgreSQL, by one shipper."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-", dir="/tmp") as text:
        folder = Path(text)
        cluster = Cluster(
            programs=program("postgres", override=None, setting="VLA_POSTGRES_BIN"),
            data=folder / "postgres",
            sockets=folder,
            port=Port(number=free_block(1), setting="(benchmark)"),
            password=secrets.token_hex(16),
        )
        weed = Weed(
            program=program("seaweedfs", override=None, setting="VLA_SEAWEEDFS_BIN"),
            data=folder / "weed",
            sockets=folder,
            first=Port(number=free_block(PORTS), setting="(benchmark)"),
            secret_key=secrets.token_hex(16),
        )
        servers = (postgres(cluster, environment=_ENVIRONMENT), seaweedfs(weed, environment=_ENVIRONMENT))
        running = [await _started(server, folder) for server in servers]
        try:
            return await _ship(cluster.url(), weed.url, folder / "capture", frames)
        finally:
            for server, process in zip(servers, running, strict=True):
                child.stop(server, process)


async def _started(server: Server, folder: Path) -> Any:
    server.prepare()
    process = child.spawn(server, log=folder / f"{server.name}.log")
    await wait_until_ready(server, process.pid, is_alive=lambda: process.poll() is None)
    return process


async def _ship(database_url: str, objects_url: str, folder: Path, frames: int) -> dict[str, Any]:
    await asyncio.to_thread(upgrade, database_url)
    await asyncio.to_thread(set_up, objects_url)
    engine, objects, metrics, log = (
        create_engine(database_url, timeout_s=60),
        create_objects(objects_url),
        create_metrics(),
        create_log("error"),
    )
    customer = await _customer(engine)
    pictures = [a_jpeg(seed) for seed in range(64)]
    collector = LocalCapture(
        folder, rules=Rules(), bounds=Bounds(spool_bytes=10**10, seal_s=15, queue_bytes=10**9), metrics=metrics, log=log
    )
    collector.start()
    began, spent = time.perf_counter(), time.process_time()
    for number in range(frames):
        collector.offer(_sample(customer, number, pictures))
    collector.close(timeout_s=600)
    written_s, written_cpu_s = time.perf_counter() - began, time.process_time() - spent
    shipper = Shipper(folder, engine=engine, objects=objects, rules=Rules(), idle_s=0, metrics=metrics, log=log)
    began, spent = time.perf_counter(), time.process_time()
    stored = await shipper.step()
    shipped_s, shipped_cpu_s = time.perf_counter() - began, time.process_time() - spent
    began, spent = time.perf_counter(), time.process_time()
    built = await build(engine, objects, Asked(), folder / "dataset")
    built_s, built_cpu_s = time.perf_counter() - began, time.process_time() - spent
    size = sum(path.stat().st_size for path in (folder / "dataset").rglob("*") if path.is_file())
    await objects.aclose()
    await engine.dispose()
    return {
        "frames": stored,
        "picture_bytes": int(np.mean([len(picture) for picture in pictures])),
        "spool_frames_per_s": round(frames / written_s),
        "spool_cpu_ms_per_frame": round(written_cpu_s * 1e3 / frames, 3),
        "ship_frames_per_s": round(stored / shipped_s),
        "ship_cpu_ms_per_frame": round(shipped_cpu_s * 1e3 / stored, 3),
        "build_frames": dict(built.frames),
        "build_skipped": dict(built.skipped),
        "build_wall_s_per_10000_frames": round(built_s * 10_000 / built.frames.total(), 1),
        "build_cpu_s_per_10000_frames": round(built_cpu_s * 10_000 / built.frames.total(), 1),
        "dataset_bytes_per_frame": round(size / built.frames.total()),
    }


async def _customer(engine: Any) -> UUID:
    from sqlalchemy import text

    id_, consent = mint(), mint()
    statement = text(
        "INSERT INTO customer_accounts (id, company_name, email, tier, data_policy, data_consent_id) "
        "VALUES (:id, 'Bench', 'b@example.com', 'pro', 'train', :consent)"
    )
    async with engine.begin() as connection:
        await connection.execute(statement, {"id": id_, "consent": consent})
    return id_


def _sample(customer: UUID, number: int, pictures: list[bytes]) -> Sample:
    return Sample(
        request_id=mint(),
        customer_id=customer,
        terms=Terms(policy="train", version=1, consent_id=None, keep_days=365),
        model="tabletop",
        model_version=1,
        robot_type="franka_panda",
        words=_WORDS,
        instruction="pick up the red cube",
        shots=(Shot(camera="front", kind="jpg", data=pictures[number % len(pictures)]),),
        is_whole=True,
        kept_because=("every",),
        action=[[0.01, number / 1e6, *[0.0] * 5]] * 8,  # no two sessions are the same: that would be one sent twice
        decision="pass",
        safety_score=0.9,
        session_id=f"ep-{number // 100}",
        seq=number,
    )


def dataset(frames: int) -> dict[str, Any]:
    """JPEGs of 224×224 decoded and written as video, numbers and statistics; one thread."""
    pictures, length = [a_jpeg(seed) for seed in range(64)], 100
    names = tuple(f"j{number}" for number in range(7))
    features: dict[str, Numbers | Video] = {
        "observation.state": Numbers(names=names),
        "action": Numbers(names=names),
        "observation.images.front": Video(height=224, width=224),
    }
    facts = DatasetFacts(fps=10, robot_type="franka_panda", features=features)
    rows = np.random.default_rng(0).normal(size=(length, 7)).astype(np.float32)

    def decoded(start: int) -> Any:
        for number in range(start, start + length):
            yield np.asarray(Image.open(io.BytesIO(pictures[number % 64])).convert("RGB"))

    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        began, spent = time.perf_counter(), time.process_time()
        with DatasetWriter(Path(folder) / "out", facts) as writer:
            for start in range(0, frames, length):
                videos = {"observation.images.front": decoded(start)}
                numbers = {"observation.state": rows, "action": rows}
                writer.add(Episode(source=f"ep-{start}", task="pick up the red cube", numbers=numbers, videos=videos))
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - spent
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {
        "frames": frames,
        "wall_s_per_10000_frames": round(wall_s * 10_000 / frames, 1),
        "cpu_s_per_10000_frames": round(cpu_s * 10_000 / frames, 1),
        "bytes_per_frame": round(size / frames),
    }


if __name__ == "__main__":
    typer.run(main)
