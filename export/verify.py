"""Proves a bundle again without the network it came from: its files, then its golden vectors through its own runner.

Used by `publish` before anything is served and by `vlaapi export verify` at any time after. It knows no Triton.
"""

from pathlib import Path

from export.bundle import refuse_changes, runner_path, version_folder
from export.contract.manifest import Manifest, load_manifest
from export.contract.runtime import Variant
from export.golden import Golden, load_golden
from export.in_process import Runner, answers, groups, open_runner
from export.parity import Agreement, measure, worst
from export.progress import counted

BATCHES = (1, 3, 16)  # and all at once


def verify(folder: Path) -> tuple[Agreement, ...]:
    """One agreement per output. Raises BundleChanged, GoldenUnfit, RunnerUnavailable, RunFailed or ParityBroken."""
    manifest = load_manifest(folder)
    refuse_changes(folder, manifest)
    golden = load_golden(folder)
    golden.refuse_unfit(manifest)
    variant = manifest.served_variant
    runner = open_runner(runner_path(folder, manifest), version_folder(folder, manifest), variant)
    return worst(agree(runner, golden, manifest, variant))


def agree(runner: Runner, golden: Golden, manifest: Manifest, variant: Variant) -> list[tuple[Agreement, ...]]:
    """A run one by one, in batches of several sizes and all at once: a graph may be right at one batch size only."""
    sizes = sorted({*(size for size in BATCHES if size < golden.count), golden.count})
    rows = {size: groups(golden.count, size) for size in sizes}
    with counted(f"proving {variant.name}", sum(map(len, rows.values()))) as tick:
        return [
            measure(answers(runner, manifest, golden.inputs, rows=rows[size], tick=tick), golden.outputs, manifest, variant)
            for size in sizes
        ]
