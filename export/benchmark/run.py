"""The whole measurement in order: is Triton there, does it answer right, the yardstick, level after level, then closed loop.

A wrong answer ends it before anything is timed. It writes no file and prints nothing; `commands` does. torch stays out of it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from export.benchmark.counters import between
from export.benchmark.figures import best_of, figures_of
from export.benchmark.load import ClosedLoop, Distribution, Load, OpenLoop
from export.benchmark.requests import Served
from export.benchmark.result import Episodes, InProcess, Level, Mode, Result, this_machine
from export.benchmark.trials import Trials, measure
from export.bundle import load_golden
from export.contract.manifest import Manifest, load_manifest
from export.served import verify_served


class Measure(Protocol):
    """Something in this process that serving is compared with: `yardstick.Yardstick`."""

    def sample(self) -> None:
        """Takes some measurements now."""

    def found(self) -> InProcess:
        """All of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A level to measure."""

    mode: Mode
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and how. `drive` runs closed-loop episodes through the Triton at an address."""

    folder: Path
    address: str
    steps: tuple[Step, ...]
    trials: Trials
    batch: int = 1
    distribution: Distribution = Distribution.CONSTANT
    yardstick: Measure | None = None
    drive: Callable[[str], Episodes] | None = None


def run(plan: Plan, tell: Callable[[str], None]) -> Result:
    """Everything. `tell` hears what begins. Raises BenchmarkFailed, ManifestError or ParityBroken."""
    manifest, examples = load_manifest(plan.folder), load_golden(plan.folder).inputs
    version = asyncio.run(_probe(plan, manifest))
    tell("parity")
    parity = verify_served(plan.folder, plan.address)
    levels = asyncio.run(measure_levels(plan, manifest, tell))
    if plan.drive is not None:
        tell("closed loop")
    return Result(
        policy=manifest.policy,
        version=manifest.version,
        variant=manifest.served,
        served_sha256=manifest.source.sha256[f"{manifest.version}/{manifest.served_variant.files[0]}"],
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=this_machine(),
        triton={"version": version, "address": plan.address},
        settings=_settings(plan, len(next(iter(examples.values())))),
        parity=parity,
        in_process=None if plan.yardstick is None else plan.yardstick.found(),
        levels=levels,
        episodes=None if plan.drive is None else plan.drive(plan.address),
    )


def _settings(plan: Plan, examples: int) -> dict[str, Any]:
    return {
        "measurement_interval_ms": plan.trials.interval_s * 1000,
        "stability_percentage": plan.trials.stability * 100,
        "max_trials": plan.trials.max_trials,
        "batch_size": plan.batch,
        "request_distribution": plan.distribution.value,
        "examples": examples,
    }


async def _probe(plan: Plan, manifest: Manifest) -> str:
    """Triton's version, or a complaint before anything else is done."""
    served = Served(plan.address, manifest)
    try:
        version = await served.open(load_golden(plan.folder).inputs, plan.batch)
        await served.counters()
    finally:
        await served.close()
    return version


async def measure_levels(plan: Plan, manifest: Manifest, tell: Callable[[str], None]) -> tuple[Level, ...]:
    """One level after the other, the yardstick before each. Raises BenchmarkFailed."""
    served = Served(plan.address, manifest)
    try:
        await served.open(load_golden(plan.folder).inputs, plan.batch)
        levels = []
        for step in plan.steps:
            if plan.yardstick is not None:  # before each level: what slows this process slows Triton, too
                tell("in process")
                plan.yardstick.sample()
            levels.append(await _level(plan, step, served, tell))
        return tuple(levels)
    finally:
        await served.close()


async def _level(plan: Plan, step: Step, served: Served, tell: Callable[[str], None]) -> Level:
    words = f"{step.value:g} {'clients' if step.mode is Mode.CONCURRENCY else 'requests/s'}"
    tell(f"{words}, warming up")
    measured = await measure(
        _load(plan, step, served), plan.trials, served.counters, lambda trial: tell(f"{words}, window {trial} measured")
    )
    return Level(
        mode=step.mode,
        value=step.value,
        is_stable=measured.is_stable,
        trials=measured.trials,
        figures=figures_of(measured.window, plan.batch),
        best=best_of(measured.windows, plan.batch),
        server=between(measured.before, measured.after),
    )


def _load(plan: Plan, step: Step, served: Served) -> Load:
    match step.mode:
        case Mode.CONCURRENCY:
            return ClosedLoop(send=served.send, clients=int(step.value))
        case Mode.REQUEST_RATE:
            return OpenLoop(send=served.send, rate_hz=step.value, distribution=plan.distribution)
