"""Preflight: what a machine lacks is said in one line each, by a Python that has none of our packages."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.embedded import preflight


def run(folder: Path, *, script: str = "") -> subprocess.CompletedProcess[str]:
    """The script as `make setup` runs it: alone, isolated from this environment's packages. `script` is put before it."""
    run_it = f"import sys, runpy; sys.argv = ['', {str(folder)!r}]; runpy.run_path({preflight.__file__!r}, run_name='__main__')"
    code = f"{script}\n{run_it}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)


def test_a_machine_that_lacks_nothing_passes_without_a_word(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "import platform; platform.machine = lambda: 'aarch64'",
            "this is Linux aarch64; the embedded Triton exists for Linux x86_64 only",
        ),
        (
            "import os; os.confstr = lambda name: 'glibc 2.31'",
            "needs glibc 2.35 or newer (Debian 12, Ubuntu 22.04); this is glibc 2.31",
        ),
        ("import sys; sys.version_info = (3, 10, 12)", "Python 3.11, 3.12 or 3.13 is needed"),
        ("import importlib.util as u; u.find_spec = lambda name: None", "apt install python3-venv"),
        ("import pathlib; pathlib.Path.exists = lambda path: False", "apt install python3-dev"),
        (
            "import shutil; shutil.disk_usage = lambda path: type('D', (), {'free': 5_000_000})",
            "has 5 MB free; 2000 MB are needed",
        ),
        ("import os; os.access = lambda path, mode: False", "cannot be written by this user"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, script: str, message: str) -> None:
    done = run(tmp_path, script=script)
    assert done.returncode == 1
    assert message in done.stderr
    assert all(line.startswith("vlaapi: ") for line in done.stderr.splitlines())
