"""One verdict per decision as JSON. `python -m tests.safety.golden_verdicts` rewrites the files; review reads the difference."""

import json
from pathlib import Path
from typing import Any

from safety.wire import fallback_json, verdict_json
from tests.safety.factories import chunk, panda_guard

FOLDER = Path(__file__).parent / "golden"


def golden_verdicts() -> dict[str, dict[str, Any]]:
    """The `safety` and `fallback` objects by decision."""
    passing, clamped, rejected = chunk(x=0.028), chunk(), chunk()
    clamped[2, :3] = (0.06, -0.03, 0.06)
    rejected[5, 3:6] = (0.0, 0.0, 57.3)
    guard = panda_guard()
    verdicts = {name: guard.check(raw) for name, raw in (("pass", passing), ("clamp", clamped), ("reject", rejected))}
    return {
        name: {"safety": verdict_json(verdict), "fallback": fallback_json(verdict.fallback) if verdict.fallback else None}
        for name, verdict in verdicts.items()
    }


def render(answer: dict[str, Any]) -> str:
    """As the file has it: strict JSON, one value a line."""
    return json.dumps(answer, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, answer in golden_verdicts().items():
        (FOLDER / f"{name}.json").write_text(render(answer), encoding="utf-8")
