"""The graphs of a bundle in the precision that a plan shall have, and how the policy answers in it, played on the CPU.

The runner that serves the float32 graphs runs the played ones, so a policy of several graphs is judged by what it answers, not by
what passes between them. It builds no plan.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from export import onnx_file
from export.bundle import version_folder
from export.contract.manifest import Manifest
from export.contract.runtime import Variant
from export.golden import Golden, load_golden
from export.in_process import answers, groups, open_runner, runner_file
from export.parity import REFERENCE_PRECISION, Agreement, Arrays, measure
from export.precision.ranges import Watched, ranges
from export.precision.rewrite import Precision
from export.precision.source import read
from export.precision.steps import PrecisionError
from export.precision.typed import Recipe, write
from export.progress import counted, working
from export.tensorrt.check import products_of
from export.tensorrt.library import EngineError
from export.tensorrt.options import FP32, PlanOptions
from export.tensorrt.profiles import free_axes

_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedGraphs:
    """`files` are the typed graphs by the name of their float32 ones; `agreements` one per output, played."""

    files: dict[str, Path]
    agreements: tuple[Agreement, ...]


def reference_variant(manifest: Manifest) -> Variant:
    """The float32 ONNX variant that every other is made from. Raises EngineError."""
    for variant in manifest.variants:
        if variant.precision == REFERENCE_PRECISION and variant.plan is None and _graphs(variant):
            return variant
    raise EngineError(f"{manifest.policy} has no float32 ONNX variant to build from: export it again")


def typed_graphs(folder: Path, manifest: Manifest, options: PlanOptions, scratch: Path) -> TypedGraphs:
    """Writes into `scratch` only. Raises EngineError, PrecisionError or what running the policy raises."""
    variant, golden = reference_variant(manifest), load_golden(folder)
    served, played = version_folder(folder, manifest), scratch / "played"
    played.mkdir(parents=True)
    measured = _measured(manifest, variant, golden, (served, scratch)) if _needs_ranges(options) else {}
    files = {}
    for name in _graphs(variant):
        files[name] = scratch / name
        with working(f"writing {name} in {options.precision}"):
            _write(served / name, (files[name], played / name), options, measured.get(name, {}))
    for name in variant.files:
        if not (played / name).exists() and not name.endswith(".data"):
            shutil.copy(served / name, played / name)
    return TypedGraphs(files=files, agreements=_played(manifest, variant, golden, (played, options)))


def refuse_strayed(manifest: Manifest, agreements: tuple[Agreement, ...], least_agreement: float) -> None:
    """Raises EngineError for answers that are not finite, or fewer equal tokens than asked for, or numbers that none proves."""
    for one in agreements:
        if one.share is None and not one.max_abs_difference < float("inf"):
            raise EngineError(f"output {one.tensor} is not finite in this precision: keep more in float32 with --keep")
        if manifest.tokens and one.tensor == manifest.tokens.tensor and not (one.share or 0.0) >= least_agreement:
            raise EngineError(
                f"{one.share or 0.0:.1%} of tokens agree in this precision, {least_agreement:.1%} are asked for: "
                f"keep more in float32 with --keep, or accept it with --least-agreement"
            )
    if not all(one.examples for one in agreements):
        raise EngineError("no golden example has all its tokens right in this precision: keep more in float32 with --keep")


def _graphs(variant: Variant) -> tuple[str, ...]:
    return tuple(name for name in variant.files if name.endswith(".onnx"))


def _write(source: Path, targets: tuple[Path, Path], options: PlanOptions, measured: dict[str, float]) -> None:
    typed, played = targets
    if options.precision == FP32 or not products_of(source):
        for target in targets:
            onnx_file.save(read(source), target)
        return
    recipe = Recipe(precision=Precision(options.precision), keep=options.keep, carried=options.carried, ranges=measured)
    write(source, typed, recipe)
    write(source, played, recipe, is_played=True)


def _needs_ranges(options: PlanOptions) -> bool:
    return options.precision != FP32 and Recipe(precision=Precision(options.precision)).needs_ranges


def _measured(manifest: Manifest, variant: Variant, golden: Golden, folders: tuple[Path, Path]) -> dict[str, dict[str, float]]:
    """By graph, how large every value gets on the golden vectors. What passes between graphs is watched while the runner runs."""
    served, scratch = folders
    names = [name for name in _graphs(variant) if products_of(served / name)]
    if len(_graphs(variant)) == 1:
        return {name: ranges(served / name, _asked(served / name, golden), scratch) for name in names}
    runner = open_runner(runner_file(variant), served, variant)
    sessions = getattr(runner, "graphs", None)
    if sessions is None:
        raise PrecisionError(f"{variant.runner} does not let its graphs be watched, so nothing measures them: use bf16")
    watched = {name: Watched(served / name, scratch) for name in names}
    sessions.update(watched)
    rows = groups(golden.count, _BATCH)
    with counted("measuring ranges", len(rows)) as tick:
        answers(runner, manifest, golden.inputs, rows=rows, tick=tick)
    return {name: one.largest for name, one in watched.items()}


def _asked(source: Path, golden: Golden) -> Arrays:
    return {name: golden.inputs[name] for name in free_axes(source)}


def _played(manifest: Manifest, variant: Variant, golden: Golden, what: tuple[Path, PlanOptions]) -> tuple[Agreement, ...]:
    folder, options = what
    runner = open_runner(runner_file(variant), folder, variant)
    rows = groups(golden.count, _BATCH)
    with counted(f"playing {options.precision}", len(rows)) as tick:
        found = answers(runner, manifest, golden.inputs, rows=rows, tick=tick)
    judged = variant.model_copy(update={"precision": options.precision, "token_agreement": None, "tolerances": {}})
    return measure(found, golden.outputs, manifest, judged)
