"""Samples, levels and results with valid defaults; used by the tests of what is computed from them."""

from dataclasses import replace
from typing import Any

from export.benchmark.counters import Server
from export.benchmark.figures import Window, best_of, figures_of
from export.benchmark.load import Answer, Sample
from export.benchmark.result import Episodes, InProcess, Level, Machine, Mode, Result
from export.parity import Agreement

MACHINE = Machine(cpu="a processor", cpus=2, system="Linux")
SERVER = Server(
    requests=100,
    queue_us=100.0,
    compute_input_us=20.0,
    compute_infer_us=700.0,
    compute_output_us=30.0,
    inferences=100,
    executions=50,
    batches={1: 20, 2: 20, 4: 10},
)


def sample(latency_s: float, *, lag_s: float = 0.0, refusal: str | None = None) -> Sample:
    """Scheduled at 0; 50 µs to hand over, 10 µs to read."""
    return Sample(0.0, Answer(lag_s, lag_s + 50e-6, latency_s - 10e-6, latency_s, refusal))


def window(latencies_s: list[float], *, duration_s: float = 1.0, refused: int = 0, cpu_s: float = 0.1) -> Window:
    samples = [sample(latency) for latency in latencies_s] + [sample(0.001, refusal="queue full") for _ in range(refused)]
    return Window(duration_s=duration_s, samples=samples, client_cpu_s=cpu_s)


def level(
    value: float = 1, *, mode: Mode = Mode.CONCURRENCY, count: int = 200, latency_s: float = 0.002, **changes: Any
) -> Level:
    one = window([latency_s] * count)
    figures, best = figures_of(one, 1), best_of([one], 1)
    return replace(Level(mode=mode, value=value, is_stable=True, trials=3, figures=figures, best=best, server=SERVER), **changes)


def result(*levels: Level, **changes: Any) -> Result:
    whole = Result(
        policy="tabletop",
        version=1,
        variant="onnx-cpu-fp32",
        precision="fp32",
        served_sha256="0" * 64,
        measured_at="2026-11-23T12:00:00+00:00",
        machine=MACHINE,
        triton={"version": "2.51.0", "address": "127.0.0.1:8001"},
        settings={"batch_size": 1},
        parity=(Agreement(tensor="action", max_abs_difference=1e-6, atol=1e-4, examples=12),),
        in_process=InProcess(runs=100, p50_us=1000.0, p99_us=1500.0, p10_us=1000.0, reference_p10_us=2000.0),
        levels=levels or (level(1), level(8, count=300)),
        episodes=Episodes(environment="a table", episodes=10, succeeded=10, mean_steps=17.0),
    )
    return replace(whole, **changes)
