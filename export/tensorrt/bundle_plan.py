"""Puts TensorRT plans into a published bundle, or into a folder: typed graphs, played parity, plan, and what it was built for.

The bundle changes as a whole or not at all (`publish.revise`). Which variant is served stays as it is. A policy of several graphs
gets a plan for each, which one runner owns (`several.py`).
"""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from export.bundle import refuse_changes, version_folder
from export.contract.manifest import Manifest, load_manifest
from export.contract.runtime import Plan, PlannedGraph, Variant
from export.onnx_file import sha256_of
from export.parity import Agreement, token_agreement
from export.publish import revise
from export.python_backend.tensorrt_engine import visible_gpu
from export.tensorrt.build import OnProgress, Order, build
from export.tensorrt.library import Device, EngineError, Library, devices, open_library
from export.tensorrt.options import FP32, PlanOptions
from export.tensorrt.profiles import Axes, Range, free_axes, profiles
from export.tensorrt.several import SEVERAL, Cases
from export.tensorrt.typed_graphs import TypedGraphs, reference_variant, refuse_strayed, typed_graphs

RUNNER, NATIVE_RUNNER = "tensorrt_engine", "tensorrt_plan"
# Rounding alone was played; kernels also add up in another order.
_SLACK = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What was built: the variants, and how the policy answers in their precision when it is played on the golden vectors."""

    variants: tuple[Variant, ...]
    agreements: tuple[Agreement, ...]


def add_plans(folder: Path, options: PlanOptions, on_progress: OnProgress) -> Added:
    """Builds one plan per device into the bundle. Raises EngineError, PrecisionError or what `publish.revise` raises."""
    library = open_library(options.flavour)
    targets = devices(library, visible_gpu(), options.capabilities)
    found: list[Added] = []

    def change(fresh: Path) -> Manifest:
        manifest = load_manifest(fresh)
        graphs = _judged(fresh, manifest, options, fresh.parent / "typed")
        served = version_folder(fresh, manifest)
        task = _Task(library=library, manifest=manifest, options=options, on_progress=on_progress)
        variants = tuple(task.variant(graphs, device, served) for device in targets)
        found.append(Added(variants=variants, agreements=graphs.agreements))
        names = {variant.name for variant in variants}
        kept = tuple(variant for variant in manifest.variants if variant.name not in names)
        return manifest.model_copy(update={"variants": (*kept, *variants)})

    revise(folder, change)
    return found[0]


def write_plans(folder: Path, options: PlanOptions, out: Path, on_progress: OnProgress) -> Added:
    """Builds a plan per graph and device into the empty folder `out`; the bundle stays as it is."""
    library = open_library(options.flavour)
    targets = devices(library, visible_gpu(), options.capabilities)
    if out.exists() and any(out.iterdir()):
        raise EngineError(f"{out} is not empty: give a new folder, so that no plan of another build is taken for one of this")
    manifest = load_manifest(folder)
    refuse_changes(folder, manifest)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        graphs = _judged(folder, manifest, options, Path(scratch) / "typed")
        plans = Path(scratch) / "plans"
        plans.mkdir()
        task = _Task(library=library, manifest=manifest, options=options, on_progress=on_progress)
        variants = tuple(task.variant(graphs, device, plans) for device in targets)
        plans.replace(out)
    return Added(variants=variants, agreements=graphs.agreements)


def _judged(folder: Path, manifest: Manifest, options: PlanOptions, scratch: Path) -> TypedGraphs:
    graphs = typed_graphs(folder, manifest, options, scratch)
    refuse_strayed(manifest, graphs.agreements, options.least_agreement)
    return graphs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One run of the command, whatever the number of graphs and devices."""

    library: Library
    manifest: Manifest
    options: PlanOptions
    on_progress: OnProgress

    def variant(self, graphs: TypedGraphs, device: Device, folder: Path) -> Variant:
        """Builds every graph for `device` and writes the plans and what they were built for into `folder`."""
        options, source = self.options, reference_variant(self.manifest)
        cases = self._cases(source, graphs)
        built = {file: self._graph(model, device, folder, cases.get(file, ())) for file, model in graphs.files.items()}
        plan = Plan(
            flavour=options.flavour.value,
            version=self.library.version,
            gpu=device.gpu.name if device.gpu else "none",
            compute_capability=device.capability,
            graphs=tuple(graph for graph, _ in built.values()),
        )
        for graph, content in built.values():
            _replace(folder / f"{graph.file}.json", self._beside(plan, graph, content))
        return Variant(
            name=_name(options, device),
            precision=options.precision,
            runner=self._runner(source, graphs),
            files=tuple(name for graph in plan.graphs for name in (graph.file, f"{graph.file}.json")),
            parameters=self._parameters(source, {file: graph for file, (graph, _) in built.items()}),
            token_agreement=token_agreement(graphs.agreements, self.manifest),
            tolerances=self._tolerances(graphs.agreements),
            plan=plan,
        )

    def _graph(self, model: Path, device: Device, folder: Path, cases: tuple[dict[str, int], ...]) -> tuple[PlannedGraph, str]:
        """Builds one graph and writes its plan at once, because it may be big; answers the facts and the plan's hash."""
        options = self.options
        shapes = profiles(model, Axes(ranges={"batch": Range(min=1, opt=1, max=16)} | options.axes, cases=cases))
        order = Order(
            model=model,
            precision=options.precision,
            device=device,
            profiles=shapes,
            workspace_bytes=options.workspace_bytes,
            timing_cache=options.timing_cache,
            max_size_ratio=options.max_size_ratio,
        )
        built = build(self.library, order, self.on_progress)
        file = f"{model.stem}.{options.precision}.{device.suffix}.plan"
        _replace(folder / file, built.plan)
        graph = PlannedGraph(
            file=file,
            profiles=shapes,
            onnx_sha256=sha256_of(model),
            bytes=built.plan.nbytes,
            precision_layers=built.layers,
        )
        return graph, hashlib.sha256(built.plan).hexdigest()

    def _cases(self, source: Variant, graphs: TypedGraphs) -> Cases:
        """The prompt's lengths one by one, and for several graphs whatever passes between them; what the operator says wins."""
        words, several = self.manifest.instruction, SEVERAL.get(source.runner)
        if several is not None and self.manifest.tokens is not None:
            spoken = next(one.shape[0] for one in self.manifest.outputs if one.tensor == self.manifest.tokens.tensor)
            cases = several.cases(source, spoken)
            return {file: found for file, found in cases.items() if not any(self.options.axes.keys() & case for case in found)}
        found = {}
        for file, model in graphs.files.items():
            shape = free_axes(model).get(words.tensor, ()) if words else ()
            length = shape[1] if len(shape) > 1 else None
            if words is not None and isinstance(length, str) and length not in self.options.axes:
                found[file] = tuple({length: bucket} for bucket in words.buckets)
        return found

    def _runner(self, source: Variant, graphs: TypedGraphs) -> str:
        several = SEVERAL.get(source.runner)
        if several is None and len(graphs.files) > 1:
            raise EngineError(
                f"{self.manifest.policy} runs {len(graphs.files)} graphs, and no runner owns plans of {source.runner}"
            )
        if self.options.is_native:
            if len(graphs.files) > 1:
                raise EngineError(f"--native: Triton's own backend runs one plan, {self.manifest.policy} has {len(graphs.files)}")
            return NATIVE_RUNNER
        return RUNNER if several is None else several.runner

    def _parameters(self, source: Variant, built: dict[str, PlannedGraph]) -> dict[str, str]:
        several = SEVERAL.get(source.runner)
        if several is None:
            (graph,) = built.values()
            return {"plan": graph.file, "onnx_sha256": graph.onnx_sha256}
        parameters = {name: source.parameters[name] for name in several.kept_parameters}
        for file, graph in built.items():
            stem = file.removesuffix(".onnx")
            parameters |= {f"{stem}.plan": graph.file, f"{stem}.onnx_sha256": graph.onnx_sha256}
        return parameters

    def _beside(self, plan: Plan, graph: PlannedGraph, plan_sha256: str) -> bytes:
        """What the runner checks before it loads the plan: the manifest is not at hand there."""
        of_all, of_this = plan.model_dump(mode="json", exclude={"graphs"}), graph.model_dump(mode="json", exclude={"file"})
        facts = of_all | of_this | {"name": self.manifest.policy, "plan_sha256": plan_sha256}
        return (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode()

    def _tolerances(self, agreements: tuple[Agreement, ...]) -> dict[str, float]:
        if self.options.precision == FP32:
            return {}
        floats = [one for one in agreements if one.share is None]
        return {one.tensor: max(one.atol, _SLACK * one.max_abs_difference) for one in floats}


def _name(options: PlanOptions, device: Device) -> str:
    parts = [options.flavour.replace("_", "-"), options.precision, device.suffix, *(["native"] if options.is_native else [])]
    return "-".join(parts)


def _replace(path: Path, content: bytes | memoryview) -> None:
    """Never into the file that is there: in a copy of a bundle it is the served one."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
