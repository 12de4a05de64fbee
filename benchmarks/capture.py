"""What keeping training data costs and how fast it is: paired requests with and without capture, frames a second into the object
store, frames a second into a LeRobotDataset v3. `python -m benchmarks.capture`.

Capture is told apart by the customer's policy in one and the same process, phases in turn, so that both halves of a pair meet the
same machine. Everything else runs alone. Results go to results/capture.json.
"""

import asyncio
import base64
import io
import json
import secrets
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import numpy as np
import typer
from PIL import Image

from benchmarks.control_plane import merge
from benchmarks.cpu import Meter
from benchmarks.http_client import Pool, post
from benchmarks.open_loop import drive
from benchmarks.stack import ROOT, Stack, free_block, running_stack, vlaapi
from control_plane.capture.collect import Bounds, LocalCapture
from control_plane.capture.sample import Sample, Shot, Terms, Words
from control_plane.capture.ship import Shipper
from control_plane.capture.storage import set_up
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
    "dataset_seconds_per_10000_frames": "≤ 60 on one core",
}
RATE_HZ, PHASE_S, WARM_S = 30.0, 6.0, 2.0
_WORDS = Words(action=("a",) * 7, action_kind="ee_delta_rotvec", state=(), control_hz=10.0)
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


def main(
    only: Annotated[str | None, typer.Option(help="paired, ship or dataset; all of them without it.")] = None,
    pairs: Annotated[int, typer.Option(help="Pairs of phases, with and without capture.")] = 8,
    frames: Annotated[int, typer.Option(help="Frames to ship, and to write into a dataset.")] = 10_000,
) -> None:
    """Measures on real servers of its own."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "paired": lambda: paired(pairs),
        "ship": lambda: asyncio.run(ship(frames)),
        "dataset": lambda: dataset(frames),
    }
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name, measure in parts.items():
        if only in (None, name):
            found[name] = {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", **measure()}
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


def paired(pairs: int) -> dict[str, Any]:
    """The same load by a customer who trains and by one who does not, in turn; CPU of the API process and latency of each."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder, running_stack(Path(folder) / "state") as stack:
        keys = {"without": stack.key, "with": _trains(stack)}
        return asyncio.run(_pairs(stack, keys, pairs))


def _trains(stack: Stack) -> str:
    words: tuple[str, ...] = (
        "--company-name",
        "Trains",
        "--email",
        "trains@example.com",
        "--tier",
        "enterprise",
        "--per-minute",
        "1000000",
    )
    words += ("--per-day", "100000000", "--concurrency", "10000")
    made = json.loads(vlaapi("customers", "create", "--json", *words, environment=stack.environment))
    customer, agreed = made["customer"]["id"], ("train", "--given-by", "a benchmark")
    vlaapi("customers", "set-data-policy", customer, *agreed, environment=stack.environment)
    key: str = made["api_key"]
    return key


async def _pairs(stack: Stack, keys: dict[str, str], pairs: int) -> dict[str, Any]:
    pool, api = Pool(stack.host, stack.port), {"api": stack.pids["api"]}
    picture = a_jpeg(1)
    bodies = {
        name: msgspec.json.encode(
            {"image": base64.b64encode(picture).decode(), "instruction": "pick up red cube", "session_id": name}
        )
        for name in keys
    }
    requests = {
        name: post("/v1/inference", body=bodies[name], content_type="application/json", key=key) for name, key in keys.items()
    }
    meters = {name: Meter(api) for name in keys}
    loads: dict[str, list[Any]] = {name: [] for name in keys}
    ratios = []
    for number in range(pairs):
        each = {}
        for name in sorted(keys, reverse=number % 2 == 0):

            async def call(request: bytes = requests[name]) -> bool:
                return (await pool.send(request)).status == 200

            await drive(call, rate_hz=RATE_HZ, duration_s=WARM_S, seed=number)
            own = Meter(api)
            with meters[name], own:
                load = await drive(call, rate_hz=RATE_HZ, duration_s=PHASE_S, seed=number)
            own.requests = len(load.latencies_ms) + load.failures
            meters[name].requests += own.requests
            each[name] = own.ms_per_request()["api"]
            loads[name].append(load)
        ratios.append(each["with"] - each["without"])
    pool.close()
    merged = {name: merge(of) for name, of in loads.items()}
    return {
        "pairs": pairs,
        "requests_per_side": meters["with"].requests,
        "picture_bytes": len(picture),
        "api_cpu_ms_per_request": {name: meter.ms_per_request()["api"] for name, meter in meters.items()},
        "difference_ms": {"median": round(float(np.median(ratios)), 3), "each": [round(one, 3) for one in ratios]},
        "latency_ms": {name: {f"p{q}": round(load.percentile(q), 2) for q in (50, 99)} for name, load in merged.items()},
        "p99_of_each_phase_ms": {name: [round(load.percentile(99), 1) for load in of] for name, of in loads.items()},
        "failures": {name: load.failures for name, load in merged.items()},
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
    await objects.aclose()
    await engine.dispose()
    return {
        "frames": stored,
        "picture_bytes": int(np.mean([len(picture) for picture in pictures])),
        "spool_frames_per_s": round(frames / written_s),
        "spool_cpu_ms_per_frame": round(written_cpu_s * 1e3 / frames, 3),
        "ship_frames_per_s": round(stored / shipped_s),
        "ship_cpu_ms_per_frame": round(shipped_cpu_s * 1e3 / stored, 3),
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
        action=[[0.01] * 7] * 8,
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
