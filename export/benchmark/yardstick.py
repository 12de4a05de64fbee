"""The bundle's own runner in this process, one example at a time: what serving costs is measured against it.

A machine that is twice as slow is so for both, so their ratio travels. It loads what Triton has loaded a second time.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from export.benchmark.figures import US
from export.benchmark.result import InProcess
from export.bundle import runner_path, version_folder
from export.contract.manifest import Manifest
from export.in_process import open_runner
from export.parity import Arrays

SLICE_S = 0.5
LEAST_RUNS = 10


class Yardstick:
    """Runs of the served graph. Take `sample` several times during a run, so that noise hits both sides."""

    def __init__(self, folder: Path, manifest: Manifest, examples: Arrays) -> None:
        run = _runner(folder, manifest)
        count = len(next(iter(examples.values())))
        self._rows = itertools.cycle([{name: value[[row]] for name, value in examples.items()} for row in range(count)])
        self._run = run
        self._taken_s: list[float] = []
        for _ in range(LEAST_RUNS):
            run(next(self._rows))

    def sample(self) -> None:
        """Half a second of runs, and at least ten."""
        until_s, runs = time.perf_counter() + SLICE_S, 0
        while runs < LEAST_RUNS or time.perf_counter() < until_s:
            inputs = next(self._rows)
            began_s = time.perf_counter()
            self._run(inputs)
            self._taken_s.append(time.perf_counter() - began_s)
            runs += 1

    def found(self) -> InProcess:
        """Over all samples."""
        p10, p50, p99 = (float(value) for value in np.percentile(self._taken_s, [10, 50, 99]) * US)
        return InProcess(runs=len(self._taken_s), p10_us=p10, p50_us=p50, p99_us=p99)


def can_measure(manifest: Manifest) -> bool:
    """Whether this process may load the served variant a second time: not on a GPU, whose memory Triton may need."""
    variant = manifest.served_variant
    return variant.plan is None and variant.parameters.get("provider", "cpu") == "cpu"


def _runner(folder: Path, manifest: Manifest) -> Callable[[Arrays], object]:
    """Raises RunnerUnavailable."""
    runner = open_runner(runner_path(folder, manifest), version_folder(folder, manifest), manifest.served_variant)
    outputs = [output.tensor for output in manifest.outputs]
    return lambda inputs: runner.run(inputs, outputs)
