"""Where a result goes: JSON, a CSV per mode, a picture; on request a baseline, and a copy beside the model card.

Knows names of files and no command.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from export.benchmark.baseline import baseline_json
from export.benchmark.csv_file import csv_text
from export.benchmark.plot import write_plot
from export.benchmark.result import Result
from export.bundle import BENCHMARK_FILE

PLOT_FILE = "benchmark.png"
# Eight of ten runs on two cores at a load of 5 to 10 lay within these; further attempts are for the others (docs/LOG.md).
# The graph against the reference repeats within 10 %; the rest of its tolerance is for processors that do one of them better.
TOLERANCES = {
    "in_process_over_reference_p10": 0.9,
    "served_over_in_process_p10": 0.5,
    "throughput_c8_over_in_process": 0.5,
    "throughput_c8_over_c1": 0.4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """`folder` gets everything; `baseline` the ratios; `bundle` what the model card shows."""

    folder: Path
    baseline: Path | None = None
    bundle: Path | None = None

    def write(self, result: Result) -> Iterator[Path]:
        """Writes, and names each file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        texts = {self.folder / BENCHMARK_FILE: result.json()}
        texts |= {
            self.folder / f"{mode.value}.csv": csv_text(result.levels, mode) for mode in {one.mode for one in result.levels}
        }
        if self.baseline is not None:
            texts[self.baseline] = baseline_json(result, TOLERANCES)
        if self.bundle is not None:
            texts[self.bundle / BENCHMARK_FILE] = result.json()
        for path, text in sorted(texts.items()):
            path.write_text(text)
            yield path
        write_plot(result, self.folder / PLOT_FILE)
        yield self.folder / PLOT_FILE
