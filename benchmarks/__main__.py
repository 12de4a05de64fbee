"""`make bench`: what one request costs, what the guard costs, what recording costs. Tables on the terminal, JSON in results/.

Numbers of one run belong together; they are compared as ratios and with the budgets of the design, never asserted in a test.
"""

import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import control_plane, fairness, guard, recorder, sockets
from benchmarks.control_plane import Durations
from benchmarks.stack import running_stack

RESULTS = Path(__file__).with_name("results")
BUDGETS = {
    "json 224x224": "≤ 2.0 ms CPU (aim 1.5), added p50 ≤ 3 ms, p99 ≤ 8 ms",
    "msgpack 224x224": "≤ 2.0 ms CPU (aim 1.5), added p50 ≤ 3 ms, p99 ≤ 8 ms",
    "json 640x480": "≤ 6 ms CPU",
}


def main(
    only: Annotated[
        str | None, typer.Option(help="control_plane, sockets, fairness, guard or recorder; all of them without it.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of one load phase.")] = 5.0,
) -> None:
    """Measures on real servers of its own."""
    console = Console(width=150)
    if only in (None, "control_plane"):
        found = _control_plane(Durations(load_s=seconds))
        console.print(_table(found["rows"]))
        console.print("decoding and resizing the picture alone, CPU-ms:", found["picture_alone_cpu_ms"])
        console.print("API processes at capacity, in pictures alone, and in ms at rest:", found["over_the_picture"])
        _write("control_plane", {**found, "budgets": BUDGETS})
    if only in (None, "sockets"):
        met = sockets.main(sockets.Durations(load_s=seconds))
        for table in sockets.tables(met):
            console.print(table)
        _write("sockets", met)
    if only in (None, "fairness"):
        shared = fairness.main(seconds)
        console.print_json(data=shared["ratios"])
        _write("fairness", shared)
    if only in (None, "recorder"):
        console.print_json(data=recorder.main())
    if only in (None, "guard"):
        guard.main()


def _control_plane(durations: Durations) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder, running_stack(Path(folder) / "state") as stack:
        return control_plane.main(stack, durations)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="control plane: at capacity (8 clients), and open loop at half of it", title_justify="left")
    columns = (
        "request",
        "capacity/s",
        "CPU ms/request",
        "load/s",
        "CPU ms/request",
        "direct ms",
        "through the API ms",
        "added ms",
    )
    for column in (*columns, "budget"):
        table.add_column(column)
    for row in rows:
        full, half = (_by_kind(row[name]) for name in ("cpu_ms_per_request_at_capacity", "cpu_ms_per_request"))
        quantiles = [f"p50 {row[kind]['p50']}  p99 {row[kind]['p99']}" for kind in ("direct_ms", "api_ms", "added_ms")]
        capacity, rate = str(row["capacity_rps"]), str(row["rate_rps"])
        table.add_row(row["workload"], capacity, full, rate, half, *quantiles, BUDGETS[row["workload"]])
    return table


def _by_kind(cpu: dict[str, float]) -> str:
    return ", ".join(f"{kind} {ms}" for kind, ms in cpu.items())


def _write(name: str, result: dict[str, Any]) -> None:
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load_before": os.getloadavg()[0]}
    RESULTS.mkdir(exist_ok=True)
    whole = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, **result}
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
