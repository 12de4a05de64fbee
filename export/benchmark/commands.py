"""`vlaapi export benchmark`: reads the words, shows what happens, writes the files, and ends with 1 if something got worse.

Exit codes: 0 measured and no worse, 1 worse than the baseline, 2 nothing was measured. It knows which families can be driven.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from export.benchmark import gate, table
from export.benchmark.baseline import load_baseline
from export.benchmark.failure import BadRange, BenchmarkFailed, NotHere
from export.benchmark.files import Files
from export.benchmark.load import Distribution
from export.benchmark.own_triton import own_triton
from export.benchmark.ranges import concurrency_levels, request_rates
from export.benchmark.result import Conditions, Episodes, Mode, Result, level_name, this_machine
from export.benchmark.run import Plan, Step, prove, run, settings_of
from export.benchmark.trials import AGREEING, Trials
from export.benchmark.yardstick import Yardstick, can_measure
from export.contract.manifest import Manifest, ManifestError, load_manifest
from export.golden import GoldenUnfit, load_golden
from export.in_process import RunnerUnavailable
from export.parity import ParityBroken
from export.served import TritonFailed

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_CONCURRENCY = "1:8:7"
WORSE, NOT_MEASURED = 1, 2
FAILURES = (BenchmarkFailed, GoldenUnfit, ManifestError, OSError, ParityBroken, RunnerUnavailable, TritonFailed)
# Families whose policies can be driven here: a module with `drive(folder, episodes, address)`, imported when it is needed.
ENVIRONMENTS = {"tabletop": "export.policies.tabletop_episodes"}
console = Console(soft_wrap=True, highlight=False, emoji=False)

Repository = Annotated[Path, typer.Option(help="Where bundles live.")]
Address = Annotated[str | None, typer.Option("--triton", help="HOST:PORT of a Triton's gRPC; without it one is started.")]
Venv = Annotated[Path, typer.Option(envvar="VLA_TRITON_VENV", help="The environment of the Triton that is started.")]
Clients = Annotated[
    str | None,
    typer.Option(
        help="Closed loop: FROM:TO:STEP clients.", show_default=f"{DEFAULT_CONCURRENCY}; none with --request-rate-range"
    ),
]
Rates = Annotated[str | None, typer.Option(help="Open loop: FROM:TO:STEP requests a second.")]
Spacing = Annotated[Distribution, typer.Option(help="How open-loop arrivals are spaced.")]
Batch = Annotated[int, typer.Option(help="Examples in one request.")]
Interval = Annotated[int, typer.Option(help="Length of a window.")]
Stability = Annotated[float, typer.Option(help="How far three windows in a row may lie from their mean.")]
MaxTrials = Annotated[int, typer.Option(help="Windows, before a level counts as unstable.")]
RunEpisodes = Annotated[int, typer.Option("--episodes", min=0, help="Closed-loop runs, where the policy has an environment.")]
Before = Annotated[Path | None, typer.Option("--baseline", help="An earlier run's JSON; ends with 1 if this one is worse.")]
Attempts = Annotated[int, typer.Option(min=1, help="How often to measure while something is worse.")]
Tolerance = Annotated[str, typer.Option(help="By how much a figure without a tolerance of its own may be worse.")]
Out = Annotated[Path | None, typer.Option(help="Where the files go; build/benchmark/NAME without it.")]
Record = Annotated[Path | None, typer.Option(help="Write this run's ratios as a baseline for any machine.")]
Keep = Annotated[bool, typer.Option("--write-to-bundle", help="Also put benchmark.json beside the model card.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command's words, read."""

    folder: Path
    triton: str | None
    triton_venv: Path
    steps: tuple[Step, ...]
    trials: Trials
    batch: int
    distribution: Distribution
    episodes: int
    baseline: Path | None
    tolerance: float
    attempts: int
    files: Files


def benchmark(
    name: Annotated[str, typer.Argument(help="The policy.")],
    repository: Repository = ROOT / "model_repository",
    triton: Address = None,
    triton_venv: Venv = ROOT / ".venv-triton",
    concurrency_range: Clients = None,
    request_rate_range: Rates = None,
    request_distribution: Spacing = Distribution.CONSTANT,
    batch_size: Batch = 1,
    measurement_interval_ms: Interval = 5000,
    stability_percentage: Stability = 10.0,
    max_trials: MaxTrials = 10,
    episodes: RunEpisodes = 10,
    baseline: Before = None,
    tolerance: Tolerance = "15%",
    attempts: Attempts = 1,
    out: Out = None,
    record_baseline: Record = None,
    write_to_bundle: Keep = False,
) -> None:
    """Measure a served policy: throughput, latency, where the time goes, parity and closed-loop success."""
    folder, chosen_out = repository / name, out or ROOT / "build" / "benchmark" / name
    try:
        verdict = _benchmark(
            Asked(
                folder=folder,
                triton=_address(triton),
                triton_venv=triton_venv,
                steps=_steps(concurrency_range, request_rate_range),
                trials=_trials(measurement_interval_ms, stability_percentage, max_trials),
                batch=batch_size,
                distribution=request_distribution,
                episodes=episodes,
                baseline=baseline,
                tolerance=gate.parse_tolerance(tolerance),
                attempts=attempts,
                files=Files(folder=chosen_out, baseline=record_baseline, bundle=folder if write_to_bundle else None),
            )
        )
    except FAILURES as error:
        console.print(str(error).replace("\n", " "), style="red", markup=False)
        raise typer.Exit(NOT_MEASURED) from None
    raise typer.Exit(WORSE if verdict is not None and verdict.broken else 0)


def _benchmark(asked: Asked) -> gate.Verdict | None:
    """Everything but the words. The baseline and the bundle are read before anything is started."""
    before = None if asked.baseline is None else load_baseline(asked.baseline)
    manifest = load_manifest(asked.folder)
    if before is not None:
        before.comparable(_conditions(asked, manifest))
    verdict = None
    with _triton(asked) as address:
        for attempt in range(1, asked.attempts + 1):
            if attempt > 1:
                console.print(f"attempt {attempt} of {asked.attempts}: a busy machine is no regression")
            result = _measured(asked, manifest, address)
            verdict = None if before is None else gate.judge(result, before, asked.tolerance)
            _show(result, verdict, asked.files)
            if verdict is None or not verdict.broken:
                break
    return verdict


def _conditions(asked: Asked, manifest: Manifest) -> Conditions:
    """What the run will have been measured under, known beforehand; how many episodes only where they can be driven."""
    return Conditions(
        policy=manifest.policy,
        variant=manifest.served,
        precision=manifest.served_variant.precision,
        settings=settings_of(asked.trials, asked.batch, asked.distribution),
        levels=tuple(level_name(step.mode, step.value) for step in asked.steps),
        episodes=asked.episodes,
        machine=this_machine(),
    )


def _measured(asked: Asked, manifest: Manifest, address: str) -> Result:
    plan = _plan(asked, manifest, address)
    proof = prove(plan)
    with _screen() as tell:
        return run(plan, proof, tell)


def _show(result: Result, verdict: gate.Verdict | None, files: Files) -> None:
    """The tables, what else there is to know, and every file written."""
    console.print(table.latency_table(result), table.breakdown_table(result), table.figures_table(result))
    for line in (*table.remarks(result), *(f"wrote {path}" for path in files.write(result))):
        console.print(line, markup=False)
    for line in () if verdict is None else table.verdict_lines(verdict):
        console.print(line, style="red" if line.startswith("worse") else None, markup=False)


def _triton(asked: Asked) -> AbstractContextManager[str]:
    """The one that was named, or one of our own."""
    return own_triton(asked.folder, asked.triton_venv) if asked.triton is None else nullcontext(asked.triton)


def _plan(asked: Asked, manifest: Manifest, address: str) -> Plan:
    environment = ENVIRONMENTS.get(manifest.family) if asked.episodes else None
    is_here = asked.triton is None or address.rpartition(":")[0] in {"localhost", "127.0.0.1", "[::1]"}
    return Plan(
        folder=asked.folder,
        address=address,
        steps=asked.steps,
        trials=asked.trials,
        batch=asked.batch,
        distribution=asked.distribution,
        yardstick=Yardstick(asked.folder, manifest, load_golden(asked.folder).inputs)
        if is_here and can_measure(manifest)
        else None,
        drive=None if environment is None else partial(_drive, environment, asked),
    )


def _drive(environment: str, asked: Asked, address: str) -> Episodes:
    """Raises NotHere where a package or a screen is missing."""
    try:
        module = importlib.import_module(environment)
    except ModuleNotFoundError as error:
        raise NotHere(f"closed loop: it needs the package {error.name}") from None
    found: Episodes = module.drive(asked.folder, asked.episodes, address)
    return found


def _steps(concurrency: str | None, rates: str | None) -> tuple[Step, ...]:
    clients = DEFAULT_CONCURRENCY if concurrency is None and rates is None else concurrency
    closed = () if clients is None else concurrency_levels(clients)
    opened = () if rates is None else request_rates(rates)
    return (
        *(Step(mode=Mode.CONCURRENCY, value=value) for value in closed),
        *(Step(mode=Mode.REQUEST_RATE, value=value) for value in opened),
    )


def _address(text: str | None) -> str | None:
    """Raises BadRange."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host.strip() or not port.isascii() or not port.isdigit():
        raise BadRange(f"triton {text!r}: write HOST:PORT, or leave it out and one is started")
    return text


def _trials(interval_ms: int, percentage: float, most: int) -> Trials:
    """Raises BadRange."""
    if interval_ms < 100 or not 0 < percentage <= 50 or most < AGREEING:
        raise BadRange(
            f"a window of {interval_ms} ms, {percentage:g} %, {most} trials: "
            f"windows are 100 ms or more, the percentage is above 0 and at most 50, and {AGREEING} trials are the least"
        )
    interval_s = interval_ms / 1000
    return Trials(interval_s=interval_s, stability=percentage / 100, max_trials=most, warmup_s=min(1.0, interval_s))


@contextmanager
def _screen() -> Iterator[Callable[[str], None]]:
    """What happens now, and for how long."""
    screen = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda text: progress.update(task, description=text)
