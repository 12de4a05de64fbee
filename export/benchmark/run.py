"""The whole measurement in order: is Triton there, does it answer right, the yardstick, level after level, then closed loop.

A wrong answer ends it before anything is timed. It writes no file and prints nothing; `commands` does. torch stays out of it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from export.benchmark.counters import between
from export.benchmark.failure import NotHere
from export.benchmark.figures import best_of, figures_of
from export.benchmark.load import ClosedLoop, Distribution, Load, OpenLoop
from export.benchmark.requests import Served
from export.benchmark.result import Episodes, InProcess, Level, Mode, Result, this_machine
from export.benchmark.trials import Trials, measure
from export.contract.manifest import Manifest, load_manifest
from export.golden import load_golden
from export.served import ServedProof, verify_served


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


def prove(plan: Plan) -> ServedProof:
    """Whether Triton answers at all, and right. Raises BenchmarkFailed, ManifestError, GoldenUnfit or ParityBroken."""
    asyncio.run(_probe(plan))
    return verify_served(plan.folder, plan.address)


def run(plan: Plan, proof: ServedProof, tell: Callable[[str], None]) -> Result:
    """Everything that takes time; `tell` hears what begins. Raises BenchmarkFailed."""
    manifest = load_manifest(plan.folder)
    version, levels = asyncio.run(measure_levels(plan, manifest, tell))
    episodes, missing = _episodes(plan, tell)
    return Result(
        policy=manifest.policy,
        version=manifest.version,
        variant=manifest.served,
        precision=manifest.served_variant.precision,
        served_sha256=manifest.source.sha256[f"{manifest.version}/{manifest.served_variant.files[0]}"],
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=this_machine(),
        triton={"version": version, "address": plan.address},
        settings=settings_of(plan.trials, plan.batch, plan.distribution),
        parity=proof.agreements,
        in_process=None if plan.yardstick is None else plan.yardstick.found(),
        levels=levels,
        episodes=episodes,
        not_measured=missing,
    )


def _episodes(plan: Plan, tell: Callable[[str], None]) -> tuple[Episodes | None, tuple[str, ...]]:
    """Closed loop last, and what hinders it ends nothing: the levels were measured."""
    if plan.drive is None:
        return None, ()
    tell("closed loop")
    try:
        return plan.drive(plan.address), ()
    except NotHere as reason:
        return None, (str(reason),)


def settings_of(trials: Trials, batch: int, distribution: Distribution) -> dict[str, Any]:
    """In the command's own words."""
    return {
        "measurement_interval_ms": trials.interval_s * 1000,
        "stability_percentage": trials.stability * 100,
        "max_trials": trials.max_trials,
        "batch_size": batch,
        "request_distribution": distribution.value,
    }


async def _probe(plan: Plan) -> None:
    """A complaint before anything else is done."""
    async with _served(plan, load_manifest(plan.folder)) as (served, _):
        await served.counters()


@asynccontextmanager
async def _served(plan: Plan, manifest: Manifest) -> AsyncIterator[tuple[Served, str]]:
    """The policy, ready to be sent requests, and Triton's version."""
    served = Served(plan.address, manifest)
    try:
        yield served, await served.open(load_golden(plan.folder).inputs, plan.batch)
    finally:
        await served.close()


async def measure_levels(plan: Plan, manifest: Manifest, tell: Callable[[str], None]) -> tuple[str, tuple[Level, ...]]:
    """Triton's version, and one level after the other, the yardstick before each. Raises BenchmarkFailed."""
    async with _served(plan, manifest) as (served, version):
        levels = []
        for step in plan.steps:
            if plan.yardstick is not None:  # before each level: what slows this process slows Triton, too
                tell("in process")
                plan.yardstick.sample()
            levels.append(await _level(plan, step, served, tell))
        return version, tuple(levels)


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
