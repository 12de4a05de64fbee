"""A result for the terminal: two lines per level, in milliseconds, the ratios, and below what the reader must know to trust it.

Knows no file; `commands` prints what it gets.
"""

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from export.benchmark.gate import Verdict
from export.benchmark.result import Level, Mode, Result

BUSY_CORES = 0.85
_LATENCY = ("load", "inf/s", "avg", "p50", "p90", "p99", "cores", "trials")
_BREAKDOWN = ("load", "queue", "input", "infer", "output", "network", "client", "batch")
_WORDS = ("load", "trials", "figure", "rests")
_FIGURES = ("figure", "value", "rests")


def latency_table(result: Result) -> Table:
    """Every level as its callers saw it; `cores` is what the generator itself used."""
    title = f"{result.policy} {result.version} ({result.variant}), Triton {result.triton['version']}: latency, ms"
    return _table(title, _LATENCY, [_latency_row(level) for level in result.levels])


def breakdown_table(result: Result) -> Table:
    """Where an average request of each level spent its time, and how many were run at once."""
    return _table("an average request, ms", _BREAKDOWN, [_breakdown_row(level) for level in result.levels])


def figures_table(result: Result) -> Table:
    """The ratios that hold on any machine, and whether the levels that they rest on had settled."""
    rows = [
        [one.name, f"{one.value:.4g}", "" if one.is_stable else "on an unstable level"]
        for one in result.figures()
        if one.is_portable
    ]
    return _table("for any machine", _FIGURES, rows)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="left" if column in _WORDS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def remarks(result: Result) -> Iterator[str]:
    """What stands below the table, a line each."""
    for one in result.parity:
        yield f"parity  {one}"
    if result.in_process is not None:
        yield f"in process  p50 {result.in_process.p50_us / 1000:.2f} ms, {result.in_process.runs} runs"
    if (found := result.episodes) is not None:
        steps = "" if found.mean_steps is None else f", {found.mean_steps:g} steps on average"
        yield f"closed loop  {found.succeeded} of {found.episodes} episodes succeeded{steps} ({found.environment})"
    yield from (f"not measured  {reason}" for reason in result.not_measured)
    for level in result.levels:
        yield from _doubts(level)


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """What the gate says."""
    if verdict.skipped:
        yield f"not compared, because the baseline is from another machine: {', '.join(verdict.skipped)}"
    if verdict.unstable:
        yield f"judged on numbers that did not settle: {', '.join(verdict.unstable)}"
    yield from (f"worse: {reason}" for reason in verdict.broken)
    if not verdict.broken:
        yield f"no worse than the baseline in {verdict.compared} figures"


def _latency_row(level: Level) -> list[str]:
    latency = level.figures.latency
    return [
        _load(level),
        f"{level.figures.inferences_per_s:.1f}",
        *_ms(latency.avg_us, latency.p50_us, latency.p90_us, latency.p99_us),
        f"{level.figures.client.cores:.2f}",
        f"{level.trials}, {'stable' if level.is_stable else 'unstable'}",
    ]


def _breakdown_row(level: Level) -> list[str]:
    server, client = level.server, level.figures.client
    own = client.send_us + client.recv_us + client.lag_avg_us
    parts = (server.queue_us, server.compute_input_us, server.compute_infer_us, server.compute_output_us, level.network_us, own)
    joined = server.inferences / server.executions if server.executions else 0.0
    return [_load(level), *_ms(*parts), f"{joined:.2f}"]


def _ms(*values_us: float) -> list[str]:
    return [f"{value / 1000:.2f}" for value in values_us]


def _load(level: Level) -> str:
    if level.mode is Mode.REQUEST_RATE:
        return f"{level.value:g}/s"
    return "1 client" if level.value == 1 else f"{level.value:g} clients"


def _doubts(level: Level) -> Iterator[str]:
    client = level.figures.client
    if not level.is_stable:
        yield f"{_load(level)}: unstable after {level.trials} windows; these are the last three"
    if level.figures.requests < 100:
        yield f"{_load(level)}: {level.figures.requests} requests are few for a p99; a longer --measurement-interval-ms helps"
    if client.cores > BUSY_CORES:
        yield f"{_load(level)}: the generator used {client.cores:.2f} cores, so this is partly its own limit"
    if level.mode is Mode.REQUEST_RATE and client.lag_p99_us > 0.1 * level.figures.latency.p99_us:
        yield f"{_load(level)}: requests were sent up to {client.lag_p99_us / 1000:.1f} ms late (p99); latencies include it"
    if level.server.requests > 1.05 * level.figures.requests + 2 * level.value:
        yield f"{_load(level)}: Triton served {level.server.requests} requests meanwhile, so somebody else uses it, too"
    if refused := level.figures.refused:
        yield f"{_load(level)}: refused {', '.join(f'{count} ({reason})' for reason, count in sorted(refused.items()))}"
