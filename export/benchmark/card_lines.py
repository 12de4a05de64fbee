"""A benchmark as a section of the model card, from the `benchmark.json` beside it.

Every number is read from the file. A benchmark of another graph is not shown: the section says that this one was not measured.
Without a file there is no section; `vlaapi export benchmark --write-to-bundle` writes one.
"""

import json
from pathlib import Path
from typing import Any

_HEAD = "| load | inferences/s | p50 ms | p90 ms | p99 ms | queue ms | infer ms | mean batch | |"


def card_lines(file: Path, served_sha256: str) -> list[str]:
    """The section, empty lines included; `served_sha256` is of the file that is served."""
    if not file.exists():
        return []
    found: dict[str, Any] = json.loads(file.read_text())
    if found.get("served_sha256") != served_sha256:
        return ["## Speed", "", "Not measured for this graph.", ""]
    machine, triton = found["machine"], found["triton"]["version"]
    return [
        "## Speed",
        "",
        f"Through Triton {triton} on {machine['cpus']} × {machine['cpu']}, {found['measured_at'][:10]};",
        f"variant `{found['variant']}`, {found['settings']['batch_size']} per request. Clients wait for their answers;",
        "requests a second do not, and their latency counts from the instant at which they were due.",
        *_in_process(found["in_process"]),
        "",
        _HEAD,
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(level) for level in found["levels"]),
        "",
    ]


def _in_process(found: dict[str, Any] | None) -> list[str]:
    return [] if found is None else [f"The same graph in one process, on one thread: p50 {_ms(found['p50_us'])} ms."]


def _row(level: dict[str, Any]) -> str:
    latency, server = level["figures"]["latency"], level["server"]
    load = f"{level['value']:g} {'clients' if level['mode'] == 'concurrency' else 'requests/s'}"
    times = (latency["p50_us"], latency["p90_us"], latency["p99_us"], server["queue_us"], server["compute_infer_us"])
    batch = server["inferences"] / max(1, server["executions"])
    doubt = "" if level["is_stable"] else "unstable"
    cells = (load, f"{level['figures']['inferences_per_s']:.0f}", *map(_ms, times), f"{batch:.1f}", doubt)
    return f"| {' | '.join(cells)} |"


def _ms(value_us: float) -> str:
    return f"{value_us / 1000:.2f}"
