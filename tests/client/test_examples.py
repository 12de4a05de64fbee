"""Every example runs as its page says, against the real service, and does what it promises."""

import os
import re
import subprocess
import sys

import pytest

from benchmarks.stack import Stack
from tests.architecture.source_files import ROOT

EXAMPLES = ROOT / "examples"
NOT_RUN = {"camera.py"}  # the others import it


def run(name: str, *words: str, url: str, key: str) -> subprocess.CompletedProcess[str]:
    """One example, as a person starts it."""
    program = ["bash"] if name.endswith(".sh") else [sys.executable]
    environment = {**os.environ, "URL": url, "KEY": key, "PYTHONPATH": str(ROOT / "client"), "PYTHONWARNINGS": "default"}
    argv = [*program, str(EXAMPLES / name), *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("name", "words", "promised"),
    [
        ("curl.sh", (), r'"decision":"pass"'),
        ("inference.py", (), r"pass, score \d"),
        ("control_loop.py", ("3",), r"\n[1-9]\d* × move"),
        ("many_robots.py", ("4", "2"), r"4 robots, [1-8] of 8 observations answered with a motion"),
        ("lerobot_loop.py", ("10",), r"\(1, 7\)"),
        ("openpi_robot.py", ("5",), r"\nmove "),
    ],
)
def test_an_example_does_what_it_promises(stack: Stack, url: str, name: str, words: tuple[str, ...], promised: str) -> None:
    done = run(name, *words, url=url, key=stack.key)
    assert done.returncode == 0, done.stderr
    assert re.search(promised, done.stdout), done.stdout
    ours = done.stderr if name != "openpi_robot.py" else ""  # websockets 17 deprecates how openpi's client connects
    assert "Warning" not in ours


@pytest.mark.parametrize("name", ["inference.py", "control_loop.py", "lerobot_loop.py", "many_robots.py"])
def test_a_wrong_key_ends_with_words_that_say_so(url: str, name: str) -> None:
    done = run(name, url=url, key="vla_live_wrong")
    assert done.returncode != 0
    assert "malformed_key" in done.stdout + done.stderr


def test_every_example_is_on_the_page_and_run_here() -> None:
    files = {path.name for path in EXAMPLES.glob("*.*") if path.suffix in {".py", ".sh"}} - NOT_RUN
    page = (EXAMPLES / "README.md").read_text()
    tested = "".join(path.read_text() for path in (ROOT / "tests" / "client").glob("test_*.py"))
    assert {name for name in files if f"`{name}`" not in page or f'"{name}"' not in tested} == set()
