"""The bundle's own runner in this process, one example at a time: what serving costs is measured against it.

A machine that is twice as slow is so for both, so their ratio travels. It loads what Triton has loaded a second time. A fixed
computation runs by turns with it: how slow the graph itself is.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from export.benchmark.figures import US
from export.benchmark.reference import reference
from export.benchmark.result import InProcess
from export.bundle import runner_path, version_folder
from export.contract.manifest import Manifest
from export.in_process import open_runner
from export.parity import Arrays

SLICE_S = 1.0
TURN = 10


class Yardstick:
    """Runs of the served graph. Take `sample` several times during a run, so that noise hits both sides."""

    def __init__(self, folder: Path, manifest: Manifest, examples: Arrays) -> None:
        run = _runner(folder, manifest)
        count = len(next(iter(examples.values())))
        self._rows = itertools.cycle([{name: value[[row]] for name, value in examples.items()} for row in range(count)])
        self._run = lambda: run(next(self._rows))
        self._reference = reference()
        self._taken_s: list[float] = []
        self._reference_s: list[float] = []
        _timed(self._run)
        _timed(self._reference)

    def sample(self) -> None:
        """A second, by turns ten runs of the graph and ten of the reference: what slows one slows the other."""
        until_s = time.perf_counter() + SLICE_S
        while True:
            self._taken_s += _timed(self._run)
            self._reference_s += _timed(self._reference)
            if time.perf_counter() >= until_s:
                return

    def found(self) -> InProcess:
        """Over all samples."""
        p10, p50, p99 = (float(value) for value in np.percentile(self._taken_s, [10, 50, 99]) * US)
        fixed = float(np.percentile(self._reference_s, 10)) * US
        return InProcess(runs=len(self._taken_s), p10_us=p10, p50_us=p50, p99_us=p99, reference_p10_us=fixed)


def _timed(run: Callable[[], object]) -> list[float]:
    """Seconds of ten runs, each."""
    taken_s = []
    for _ in range(TURN):
        began_s = time.perf_counter()
        run()
        taken_s.append(time.perf_counter() - began_s)
    return taken_s


def can_measure(manifest: Manifest) -> bool:
    """Whether this process may load the served variant a second time: not on a GPU, whose memory Triton may need."""
    variant = manifest.served_variant
    return variant.plan is None and variant.parameters.get("provider", "cpu") == "cpu"


def _runner(folder: Path, manifest: Manifest) -> Callable[[Arrays], object]:
    """Raises RunnerUnavailable."""
    runner = open_runner(runner_path(folder, manifest), version_folder(folder, manifest), manifest.served_variant)
    outputs = [output.tensor for output in manifest.outputs]
    return lambda inputs: runner.run(inputs, outputs)
