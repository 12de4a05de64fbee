"""The sections of the card that were measured after export: the benchmark's and the closed loop's, read from JSON in the bundle.

`benchmark.json` is what `vlaapi export benchmark NAME --write-to-bundle` writes; of it the card needs what `Benchmark` lists, and
ignores the rest. `evaluation.json` is what a family's own evaluation writes. Each names what it measured; another is not shown.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from export.bundle import BENCHMARK_FILE, EVALUATION_FILE
from export.contract.manifest import Manifest
from export.interval import wilson

BENCHMARK_SCHEMA = 1


class Latency(BaseModel):
    """Microseconds."""

    p50_us: float
    p90_us: float
    p99_us: float


class Figures(BaseModel):
    """One level: `inferences_per_s` answered."""

    inferences_per_s: float
    latency: Latency


class Level(BaseModel):
    """One load: `value` clients (mode "concurrency") or requests a second (mode "request_rate")."""

    mode: str
    value: float
    is_stable: bool
    figures: Figures


class Machine(BaseModel):
    """Where the numbers were taken."""

    cpu: str
    cpus: int


class Benchmark(BaseModel):
    """What the card reads of `benchmark.json`; unknown fields are the benchmark's own."""

    schema_version: int
    policy: str
    version: int
    variant: str
    measured_at: str
    machine: Machine
    levels: tuple[Level, ...]


def benchmark_section(folder: Path, manifest: Manifest) -> Iterator[str]:
    """The table of levels, or that there is none for this version."""
    yield from ("## Benchmark", "")
    found = _benchmark(folder / BENCHMARK_FILE)
    if found is None or (found.policy, found.version) != (manifest.policy, manifest.version):
        yield from ("Not measured for this version. `vlaapi export benchmark` does.", "")
        return
    machine = found.machine
    yield f"Through Triton, variant `{found.variant}`, {found.measured_at}, {machine.cpu} ({machine.cpus} cores)."
    yield from ("", "| load | inferences/s | p50 ms | p90 ms | p99 ms | stable |", "|---|---|---|---|---|---|")
    for level in found.levels:
        unit = {"concurrency": "client"}.get(level.mode, "request") + ("" if level.value == 1 else "s")
        unit += "" if level.mode == "concurrency" else "/s"
        latency = level.figures.latency
        times = " | ".join(f"{value / 1e3:.2f}" for value in (latency.p50_us, latency.p90_us, latency.p99_us))
        stable = "yes" if level.is_stable else "no"
        yield f"| {level.value:g} {unit} | {level.figures.inferences_per_s:.1f} | {times} | {stable} |"
    yield ""


def closed_loop_section(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Success in the policy's own environment, or that this graph was not tried in one."""
    found = _json(folder / EVALUATION_FILE)
    model = manifest.source.sha256.get(f"{manifest.version}/{manifest.served_variant.files[0]}")
    if found is None or model is None or found.get("model_sha256") != model:
        yield from ("## Closed loop", "", "Not measured for this graph.", "")
        return
    yield from _episodes(found)
    yield from _directions(found)
    yield from ("## Training", "", *(f"- {line}" for line in found["training"]), "")
    yield from ("## What the closed loop does not show", "", *(f"- {line}" for line in found["limits"]), "")


def _benchmark(path: Path) -> Benchmark | None:
    found = _json(path)
    try:
        read = None if found is None else Benchmark.model_validate(found)
    except ValidationError:
        return None
    return read if read is not None and read.schema_version == BENCHMARK_SCHEMA else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _episodes(found: dict[str, Any]) -> list[str]:
    rows = [
        f"| {row['name']} | {row['lifted_named']} / {row['episodes']} | {_bounds(row['lifted_named'], row['episodes'])} "
        f"| {row['lifted_wrong']} | {row['mean_steps']} |"
        for row in found["closed_loop"]
    ]
    return [
        "## Closed loop",
        "",
        f"New scenes (seeds from {found['first_seed']}), light, colours and camera jittered, at most {found['max_steps']} steps",
        "of 0.1 s. What was asked is done when the named thing is 6 cm up, when the tool stays above it for half a second,",
        "or when it lies in the bowl. Unless said otherwise: state sent, pictures of 224×224, the shortest words (“pick up red",
        "cube”), and half of each chunk executed before the next picture.",
        "",
        "| condition | done as asked | 95 % | done to another thing | mean steps |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]


def _bounds(succeeded: int, episodes: int) -> str:
    low, high = wilson(succeeded, episodes)
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _directions(found: dict[str, Any]) -> list[str]:
    rows = [f"| {row['name']} | {row['right']} / {row['asked']} |" for row in found["first_motion"]]
    return [
        "## First motion",
        "",
        "From one picture of three cubes, each is named in turn; right means the first chunk heads for the named one.",
        "",
        "| condition | right |",
        "|---|---|",
        *rows,
        "",
    ]
