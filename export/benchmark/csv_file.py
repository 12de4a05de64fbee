"""The levels of one mode as perf_analyzer's CSV: the same columns in the same order, microseconds, sorted by throughput.

What perf_analyzer has no column for (stability, lag, batch sizes) is in the JSON. Knows no file.
"""

import csv
import io
from collections.abc import Sequence

from export.benchmark.result import Level, Mode

_FIRST = {Mode.CONCURRENCY: "Concurrency", Mode.REQUEST_RATE: "Request Rate"}
COLUMNS = (
    "Inferences/Second",
    "Client Send",
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Client Recv",
    "p50 latency",
    "p90 latency",
    "p95 latency",
    "p99 latency",
    "Avg latency",
)


def csv_text(levels: Sequence[Level], mode: Mode) -> str:
    """The file's text: a header, and a line per level of `mode`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((_FIRST[mode], *COLUMNS))
    chosen = [level for level in levels if level.mode is mode]
    writer.writerows(_row(level) for level in sorted(chosen, key=lambda level: level.figures.inferences_per_s))
    return out.getvalue()


def _row(level: Level) -> list[str]:
    latency, client, server = level.figures.latency, level.figures.client, level.server
    microseconds = (
        client.send_us,
        level.network_us,
        server.queue_us,
        server.compute_input_us,
        server.compute_infer_us,
        server.compute_output_us,
        client.recv_us,
        *(latency.p50_us, latency.p90_us, latency.p95_us, latency.p99_us, latency.avg_us),
    )
    return [f"{level.value:g}", f"{level.figures.inferences_per_s:.6g}", *(f"{value:.0f}" for value in microseconds)]
