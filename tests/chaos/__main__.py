"""`make chaos`: the kill test for as long as one likes, with what was counted printed at the end."""

import asyncio
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.control_plane import workloads
from benchmarks.stack import running_stack
from tests.chaos.experiment import Plan, run


def main(
    rounds: Annotated[int, typer.Option(help="How often each server is killed.")] = 5,
    rate_hz: Annotated[float, typer.Option(help="Requests per second.")] = 50.0,
    between: Annotated[int, typer.Option(help="Acknowledged requests between two kills.")] = 200,
) -> None:
    """Kills API process, recorder, Valkey, PostgreSQL and Triton in turn under load and counts the rows."""
    plan = Plan(rounds=rounds, rate_hz=rate_hz, acknowledged_between=between)
    with tempfile.TemporaryDirectory(prefix="vla-chaos-") as folder, running_stack(Path(folder)) as stack:
        workload = workloads(stack.example)[1]
        outcome = asyncio.run(run(stack, plan, image=workload.body, content_type=workload.content_type))
    typer.echo(json.dumps(dataclasses.asdict(outcome), indent=2))
    is_right = not outcome.missing and not outcome.repeated_answers and outcome.rows == outcome.distinct_rows
    raise typer.Exit(0 if is_right and outcome.billable_rows == outcome.billable_in_rollups else 1)


if __name__ == "__main__":
    typer.run(main)
