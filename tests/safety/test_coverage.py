"""Every line and every branch of `safety/` is taken by a scenario of these tests: by one that says what must happen, not by luck.

Measured in a process of its own, without the tests of random cases: they come on top. What no test can reach is marked where it
stands, with the reason.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIOS = ["-m", "not hypothesis", "-p", "no:cacheprovider", "-q", "tests/safety"]
NOT_THESE = ["--ignore", "tests/safety/test_coverage.py", "--ignore", "tests/safety/test_docs.py"]


@pytest.mark.timeout(900)
def test_every_branch_of_the_guard_is_taken(tmp_path: Path) -> None:
    data, report = f"--data-file={tmp_path / 'data'}", tmp_path / "report.json"
    measured = [sys.executable, "-m", "coverage", "run", "--branch", "--source=safety", data, "-m", "pytest"]
    run = subprocess.run([*measured, *SCENARIOS, *NOT_THESE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    subprocess.run([sys.executable, "-m", "coverage", "json", data, "-q", "-o", report], cwd=ROOT, check=True)
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "safety").rglob("*.py")} == set(files)
    missed = {name: (file["missing_lines"], file["missing_branches"]) for name, file in files.items()}
    assert {name: lines for name, lines in missed.items() if any(lines)} == {}
