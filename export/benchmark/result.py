"""What a benchmark found, as values and as JSON; and the few figures by which two runs are compared.

Ratios within one run hold on any machine, absolute numbers only on the one they were taken on. It judges nothing: `gate` does.
"""

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from export.benchmark.counters import Server
from export.benchmark.figures import US, Best, Figures
from export.parity import Agreement

SCHEMA_VERSION = 1


class Mode(StrEnum):
    """What is held constant at a level."""

    CONCURRENCY = "concurrency"
    REQUEST_RATE = "request_rate"


def level_name(mode: Mode, value: float) -> str:
    """Short: c8, r150."""
    return f"{'c' if mode is Mode.CONCURRENCY else 'r'}{value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One point of the curve: `value` clients, or requests a second."""

    mode: Mode
    value: float
    is_stable: bool
    trials: int
    figures: Figures
    best: Best
    server: Server

    @property
    def name(self) -> str:
        """As in figures."""
        return level_name(self.mode, self.value)

    @property
    def network_us(self) -> float:
        """What neither the client's nor Triton's own account explains: the network, and Triton's gRPC front."""
        client, latency = self.figures.client, self.figures.latency
        return max(0.0, latency.avg_us - client.lag_avg_us - client.send_us - client.recv_us - self.server.inside_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcess:
    """The same graph in this process, one example at a time: what serving is compared with.

    `reference_p10_us` is what a fixed computation took meanwhile.
    """

    runs: int
    p50_us: float
    p99_us: float
    p10_us: float
    reference_p10_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """Closed-loop runs of the served policy in its own environment."""

    environment: str
    episodes: int
    succeeded: int
    mean_steps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the numbers were taken, as far as it matters for comparing them."""

    cpu: str
    cpus: int
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number to compare by. `tolerance` is this figure's own, a share of the baseline; None: the one that the caller gives.

    `is_stable` is false where it rests on a level that did not settle.
    """

    name: str
    value: float
    is_higher_better: bool
    is_portable: bool
    tolerance: float | None = None
    is_stable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What two runs must share before their figures mean the same. `levels` are names such as c8; `episodes` closed-loop runs."""

    policy: str
    variant: str
    precision: str
    settings: dict[str, Any]
    levels: tuple[str, ...]
    episodes: int | None
    machine: Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A whole run. `settings` is what was asked for, in the command's own words."""

    policy: str
    version: int
    variant: str
    precision: str
    served_sha256: str  # of the variant's first file: which graph this was
    measured_at: str
    machine: Machine
    triton: dict[str, str]
    settings: dict[str, Any]
    parity: tuple[Agreement, ...]
    in_process: InProcess | None
    levels: tuple[Level, ...]
    episodes: Episodes | None
    not_measured: tuple[str, ...] = ()  # what was asked for and could not be, a line each

    @property
    def conditions(self) -> Conditions:
        """Under which it was measured."""
        return Conditions(
            policy=self.policy,
            variant=self.variant,
            precision=self.precision,
            settings=self.settings,
            levels=tuple(level.name for level in self.levels),
            episodes=None if self.episodes is None else self.episodes.episodes,
            machine=self.machine,
        )

    def figures(self) -> tuple[Figure, ...]:
        """What a later run is compared by, in a fixed order."""
        return (*_ratios(self), *(figure for level in self.levels for figure in _absolutes(level)))

    def json(self) -> str:
        """The file's text."""
        whole = {"schema_version": SCHEMA_VERSION, **asdict(self), "figures": [asdict(figure) for figure in self.figures()]}
        return json.dumps(_rounded(whole), indent=2, ensure_ascii=False) + "\n"


def this_machine() -> Machine:
    """The processor's name, how many of them we may use, and the system."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return Machine(cpu=next(iter(names), platform.machine()), cpus=len(os.sched_getaffinity(0)), system=platform.system())


def _ratios(result: Result) -> Iterator[Figure]:
    if result.episodes is not None:
        success = result.episodes.succeeded / result.episodes.episodes
        yield Figure(name="closed_loop_success", value=success, is_higher_better=True, is_portable=True)
    asked = sum(level.figures.requests + sum(level.figures.refused.values()) for level in result.levels)
    refused = sum(sum(level.figures.refused.values()) for level in result.levels)
    yield _ratio("refused_share", refused / asked, *result.levels)
    if (alone := result.in_process) is not None:
        yield _ratio("in_process_over_reference_p10", alone.p10_us / alone.reference_p10_us)
    yield from _ratios_of_best(result)


def _ratios_of_best(result: Result) -> Iterator[Figure]:
    """Best against best, so that what else ran on the machine does not decide."""
    clients = {level.value: level for level in result.levels if level.mode is Mode.CONCURRENCY}
    if not clients:
        return
    alone, most = clients.get(1), clients[max(clients)]
    if alone is not None and result.in_process is not None:
        yield _ratio("served_over_in_process_p10", alone.best.p10_us / result.in_process.p10_us, alone)
    if result.in_process is not None:
        gain = most.best.inferences_per_s * result.in_process.p10_us / US
        yield _ratio(f"throughput_{most.name}_over_in_process", gain, most, is_higher_better=True)
    if alone is not None and most is not alone:
        gain = most.best.inferences_per_s / alone.best.inferences_per_s
        yield _ratio(f"throughput_{most.name}_over_c1", gain, alone, most, is_higher_better=True)


def _ratio(name: str, value: float, *levels: Level, is_higher_better: bool = False) -> Figure:
    """A figure for any machine that rests on `levels`."""
    is_stable = all(level.is_stable for level in levels)
    return Figure(name=name, value=value, is_higher_better=is_higher_better, is_portable=True, is_stable=is_stable)


def _absolutes(level: Level) -> Iterator[Figure]:
    found, latency = level.figures, level.figures.latency
    for name, value in (
        ("inferences_per_s", found.inferences_per_s),
        ("p50_us", latency.p50_us),
        ("p99_us", latency.p99_us),
    ):
        yield Figure(
            name=f"{name}_{level.name}",
            value=value,
            is_higher_better=name == "inferences_per_s",
            is_portable=False,
            is_stable=level.is_stable,
        )


def _rounded(value: Any) -> Any:
    """Numbers to what was measured, not to what a float can hold."""
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {str(key): _rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [_rounded(one) for one in value]
        case _:
            return value
