"""Which lines and branches of a package no scenario of its tests takes, measured in a process of its own.

Without the tests of random cases: they come on top, and what they happen to reach shows nothing. What no test can reach is marked
where it stands, with the reason.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SCENARIOS = ("-m", "not hypothesis", "-p", "no:cacheprovider", "-q")


def missed_branches(package: str, tests: Sequence[str], folder: Path) -> dict[str, tuple[list[int], list[list[int]]]]:
    """Lines and branches by file; empty when every one is taken. Fails when a test does, or when a file was not seen at all."""
    data, report = f"--data-file={folder / 'data'}", folder / "report.json"
    measured = [sys.executable, "-m", "coverage", "run", "--branch", f"--source={package}", data, "-m", "pytest"]
    run = subprocess.run([*measured, *_SCENARIOS, *tests], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    subprocess.run([sys.executable, "-m", "coverage", "json", data, "-q", "-o", report], cwd=ROOT, check=True)
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    assert {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")} == set(files)
    missed = {name: (file["missing_lines"], file["missing_branches"]) for name, file in files.items()}
    return {name: lines for name, lines in missed.items() if any(lines)}
