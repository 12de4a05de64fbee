"""The script behind `make test`: every lane runs, and a failure of any of them is a failure of the whole."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "run_tests.sh"
SAYS = """#!/usr/bin/env bash
echo "$0 $*" >> "{calls}"
echo "told by $*"
case "$*" in {failing}) exit 1 ;; esac
"""


def run_with(folder: Path, *, failing: str, reruns: str = "") -> tuple[int, str, list[str]]:
    """Exit status, what was printed and what was called; `failing` is a pattern of the words of the one that fails."""
    calls = folder / "calls"
    for name in ("app", "export"):
        python = folder / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(SAYS.format(calls=calls, failing=failing))
        python.chmod(0o755)
    words = ["bash", str(SCRIPT), str(folder / "app"), str(folder / "export")]
    done = subprocess.run(
        words, cwd=folder, env={"PATH": "/usr/bin:/bin", "RERUNS": reruns}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, [line.replace(f"{folder}/", "") for line in calls.read_text().splitlines()]


def test_all_lanes_run_and_their_logs_are_shown(tmp_path: Path) -> None:
    status, printed, calls = run_with(tmp_path, failing="never", reruns="1")
    assert status == 0
    assert sorted(calls) == [
        "app/bin/python -m pytest --reruns 1 --ignore=tests/chaos --ignore=tests/deploy",
        "app/bin/python -m pytest --reruns 1 tests/chaos tests/deploy",
        "export/bin/python -m pytest -m export -o timeout=900 --confcutdir=tests/export tests/export tests/tabletop",
    ]
    assert printed.count("told by") == 3


@pytest.mark.parametrize("failing", ["*--ignore=tests/deploy", "*' tests/chaos tests/deploy'", "*tests/tabletop"])
def test_a_failure_in_any_lane_is_one_of_the_whole_and_the_others_still_run(tmp_path: Path, failing: str) -> None:
    status, _, calls = run_with(tmp_path, failing=failing)
    assert status == 1
    assert len(calls) == 3
