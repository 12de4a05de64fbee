"""Puts TensorRT plans into a published bundle, or into a folder: typed graphs, played parity, plan, and what it was built for.

The bundle changes as a whole or not at all (`publish.revise`). Which variant is served stays as it is. A policy of several graphs
gets its plans in a folder only: the runner that would own them all is the family's.
"""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from export.bundle import refuse_changes, version_folder
from export.contract.manifest import Manifest, load_manifest
from export.contract.runtime import Plan, Variant
from export.onnx_file import sha256_of
from export.parity import Agreement, token_agreement
from export.publish import revise
from export.python_backend.tensorrt_engine import visible_gpu
from export.tensorrt.build import Built, OnProgress, Order, build
from export.tensorrt.library import Device, EngineError, Library, devices, open_library
from export.tensorrt.options import FP32, PlanOptions
from export.tensorrt.profiles import Axes, Profile, Range, free_axes, profiles
from export.tensorrt.typed_graphs import TypedGraphs, refuse_strayed, typed_graphs

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
        if len(graphs.files) > 1:
            raise EngineError(f"{manifest.policy} runs {len(graphs.files)} graphs: build their plans into a folder with --out")
        served = version_folder(fresh, manifest)
        task = _Task(library=library, manifest=manifest, options=options, on_progress=on_progress)
        variants = tuple(task.variant(next(iter(graphs.files.values())), device, served, graphs) for device in targets)
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
        variants = tuple(task.variant(model, device, plans, graphs) for device in targets for model in graphs.files.values())
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

    def variant(self, model: Path, device: Device, folder: Path, graphs: TypedGraphs) -> Variant:
        """Builds `model` for `device` and writes the plan and what it was built for into `folder`."""
        options = self.options
        shapes = profiles(model, self._axes(model))
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
        plan = self._facts(model, device, shapes, built)
        file = folder / f"{model.stem}.{options.precision}.{device.suffix}.plan"
        _replace(file, built.plan)
        _replace(file.with_name(f"{file.name}.json"), self._beside(plan, built.plan))
        measured = token_agreement(graphs.agreements, self.manifest)
        return Variant(
            name=_name(options, device),
            precision=options.precision,
            runner=NATIVE_RUNNER if options.is_native else RUNNER,
            files=(file.name, f"{file.name}.json"),
            parameters={} if options.is_native else {"plan": file.name, "onnx_sha256": plan.onnx_sha256},
            token_agreement=measured,
            tolerances=self._tolerances(graphs.agreements),
            plan=plan,
        )

    def _axes(self, model: Path) -> Axes:
        """The wire's batch, the prompt's lengths one by one, and what the operator says of others."""
        ranges = {"batch": Range(min=1, opt=1, max=16)} | self.options.axes
        words = self.manifest.instruction
        shape = free_axes(model).get(words.tensor, ()) if words else ()
        length = shape[1] if len(shape) > 1 else None
        if words is None or not isinstance(length, str) or length in ranges:
            return Axes(ranges=ranges)
        return Axes(ranges=ranges, bucketed=length, buckets=words.buckets)

    def _facts(self, model: Path, device: Device, shapes: tuple[Profile, ...], built: Built) -> Plan:
        return Plan(
            flavour=self.options.flavour.value,
            version=self.library.version,
            gpu=device.gpu.name if device.gpu else "none",
            compute_capability=device.capability,
            profiles=shapes,
            onnx_sha256=sha256_of(model),
            bytes=built.plan.nbytes,
            precision_layers=built.layers,
        )

    def _beside(self, plan: Plan, content: memoryview) -> bytes:
        """What the runner checks before it loads the plan: the manifest is not at hand there."""
        facts = plan.model_dump(mode="json") | {
            "name": self.manifest.policy,
            "plan_sha256": hashlib.sha256(content).hexdigest(),
        }
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
