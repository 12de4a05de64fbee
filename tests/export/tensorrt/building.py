"""What every family's published bundle must go through: typed, played against its golden vectors, parsed and built.

A family's tests call `build_plans` on the bundle that they publish anyway; TensorRT-RTX needs no GPU for it.
"""

from pathlib import Path

from export.contract.manifest import load_manifest
from export.contract.runtime import PlannedGraph
from export.precision.rewrite import Precision
from export.tensorrt.bundle_plan import Added, write_plans
from export.tensorrt.library import Flavour
from export.tensorrt.options import PlanOptions
from export.tensorrt.profiles import Range


def build_plans(bundle: Path, out: Path, precision: Precision, axes: dict[str, Range] | None = None) -> Added:
    """Builds every graph of `bundle` for an RTX 40 card and checks what can be checked anywhere."""
    options = PlanOptions(
        precision=precision.value,
        flavour=Flavour.RTX,
        capabilities=("8.9",),
        axes={"batch": Range(min=1, opt=2, max=4)} | (axes or {}),
        least_agreement=0.0,
    )
    added = write_plans(bundle, options, out, lambda *_: None)
    assert {one.tensor for one in added.agreements} == {output.tensor for output in load_manifest(bundle).outputs}
    assert sorted(path.name for path in out.iterdir()) == sorted(file for one in added.variants for file in one.files)
    assert any(f"products.{stored(precision)}" in graph.precision_layers for graph in plans_of(added))
    return added


def plans_of(added: Added) -> tuple[PlannedGraph, ...]:
    """The facts of every graph's plan."""
    plan = added.variants[0].plan
    assert plan is not None
    return plan.graphs


def plan_of(added: Added, index: int = 0) -> PlannedGraph:
    """The facts of one of the plans."""
    return plans_of(added)[index]


def stored(precision: Precision) -> str:
    """The type that products give."""
    return "fp16" if precision is Precision.FP16 else "bf16"
