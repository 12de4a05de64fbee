"""`vlaapi export build-engine`: a TensorRT plan from a bundle's float32 graph, on the GPU that will run it.

It only reads the command line and shows what happens; `export.tensorrt` does the work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from export.least_agreement import LEAST_AGREEMENT, LeastAgreement
from export.tensorrt.build import OnProgress
from export.tensorrt.bundle_plan import Added, add_plans, write_plans
from export.tensorrt.library import EngineError, Flavour
from export.tensorrt.options import PlanOptions
from export.tensorrt.profiles import Range, parse_range

REPOSITORY = Path(__file__).resolve().parent.parent / "model_repository"


class Target(StrEnum):
    """Which TensorRT builds."""

    TENSORRT = "tensorrt"
    RTX = "rtx"


class PlanPrecision(StrEnum):
    """What products work in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"


def build_engine(
    name: Annotated[str, typer.Argument(help="The policy, as its folder in the repository is called.")],
    *,
    gpu: Annotated[bool, typer.Option("--gpu", help="Build for the GPU in this machine (as without any device).")] = False,
    target: Annotated[Target, typer.Option(help="TensorRT, or TensorRT-RTX for GeForce and RTX workstations.")] = Target.TENSORRT,
    compute_capability: Annotated[
        list[str] | None, typer.Option(help="With --target rtx: build for this one, without a GPU; may be given again.")
    ] = None,
    precision: Annotated[PlanPrecision, typer.Option(help="What products work in.")] = PlanPrecision.BF16,
    batch: Annotated[str, typer.Option(help="Batch sizes MIN:OPT:MAX that the plan takes.")] = "1:1:16",
    axis: Annotated[list[str] | None, typer.Option(help="Sizes of another free axis, NAME=MIN:OPT:MAX; again for more.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Pattern of weights or nodes that stay float32; again for more.")] = None,
    workspace_gib: Annotated[int, typer.Option(min=1, help="GPU memory that kernels may use while they are chosen.")] = 8,
    timing_cache: Annotated[Path | None, typer.Option(help="File that remembers measured kernels between builds.")] = None,
    max_size_ratio: Annotated[float | None, typer.Option(min=1.0, help="Plan's size over its weights' that is accepted.")] = None,
    least_agreement: LeastAgreement = LEAST_AGREEMENT,
    native: Annotated[bool, typer.Option("--native", help="For Triton's own TensorRT backend, not our runner.")] = False,
    out: Annotated[Path | None, typer.Option(help="An empty folder for the plans; without it they go into the bundle.")] = None,
    repository: Annotated[Path, typer.Option(help="Where bundles live.")] = REPOSITORY,
) -> None:
    """Build a TensorRT plan from a bundle's graph, prove its precision and add it to the bundle."""
    if gpu and compute_capability:
        raise EngineError("--gpu is the GPU in this machine, --compute-capability another one: give one of them")
    if native and target is Target.RTX:
        raise EngineError("--native is for --target tensorrt: Triton's own backend does not load plans of TensorRT-RTX")
    options = PlanOptions(
        precision=precision.value,
        flavour=Flavour.RTX if target is Target.RTX else Flavour.TENSORRT,
        capabilities=tuple(compute_capability or ()),
        axes=_axes(batch, axis or []),
        workspace_bytes=workspace_gib << 30,
        timing_cache=timing_cache,
        keep=tuple(keep or ()),
        max_size_ratio=max_size_ratio,
        least_agreement=least_agreement,
        is_native=native,
    )
    with _progress() as on_progress:
        folder = repository / name
        added = add_plans(folder, options, on_progress) if out is None else write_plans(folder, options, out, on_progress)
    _show(added, precision.value, out or folder)


def _axes(batch: str, others: list[str]) -> dict[str, Range]:
    return dict([parse_range(f"batch={batch}"), *(parse_range(text) for text in others)])


def _show(added: Added, precision: str, where: Path) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"built into {where}", markup=False)
    for one in added.agreements:
        share = "" if one.share is None else f", {one.share:.2%} equal"
        console.print(f"{one.tensor} played in {precision}: differs by at most {one.max_abs_difference:.2e}{share}", markup=False)
    for variant in added.variants:
        plan = variant.plan
        for graph in () if plan is None else plan.graphs:
            layers = ", ".join(f"{count} {kind}" for kind, count in graph.precision_layers.items())
            console.print(f"{graph.file}: {graph.bytes / 1e6:,.1f} MB, layers {layers}", markup=False)


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar per phase of the builder, on a terminal only."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {}

        def on_progress(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=total)
            progress.update(tasks[phase], completed=done, visible=done < total)

        yield on_progress
