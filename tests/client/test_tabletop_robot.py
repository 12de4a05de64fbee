"""The simulated robot is a customer like any other: it asks the real service with a key, and says what went wrong in one line.

It runs in the export environment, as `make demo` does; without that, or without off-screen OpenGL, there is nothing to test here.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-export" / "bin" / "python"
UNKNOWN_KEY = "vla_live_uxeXWRlipe7IRvg6qfwFTr1WuDt4LliTD"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="needs .venv-export (make venv-export)")


def _tabletop(*words: str, key: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "VLA_KEY": key, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(PYTHON), "-m", "tabletop", *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=170,
        check=False,
    )
    if "no off-screen OpenGL" in done.stdout:
        pytest.skip(done.stdout.strip())
    return done


def test_the_demo_picks_up_what_is_named_and_leaves_pictures_of_it(stack: Stack, url: str, tmp_path: Path) -> None:
    done = _tabletop("demo", "--cube", "green", "--url", url, "--out", str(tmp_path), key=stack.key)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("“pick up the green cube” (scene 9000000): done in ")
    with Image.open(tmp_path / "demo.gif") as animation:
        assert getattr(animation, "n_frames", 1) > 5
    with Image.open(tmp_path / "demo.png") as sheet:
        assert sheet.width > 1000


def test_an_evaluation_asks_through_the_socket_and_keeps_what_it_counted(stack: Stack, url: str, tmp_path: Path) -> None:
    done = _tabletop("eval", "--episodes", "2", "--through", "websocket", "--url", url, "--out", str(tmp_path), key=stack.key)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads((tmp_path / "eval.json").read_text())["runs"]
    everything = run["rows"][0]
    assert (everything["episodes"], everything["succeeded"], everything["wrong"]) == (2, 2, 0)
    assert run["latency_ms"]["answers"] >= 4
    assert set(run["decisions"]) <= {"pass", "clamp", "truncate"}
    assert "guard interventions" in done.stdout


def test_a_policy_that_the_key_may_not_use_is_one_line(stack: Stack, url: str) -> None:
    done = _tabletop("eval", "--policy", "nonesuch", "--url", url, key=stack.key)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert done.stdout.startswith("policy 'nonesuch': this key may use tabletop")


def test_a_key_that_is_not_known_is_one_line(url: str) -> None:
    done = _tabletop("eval", "--episodes", "1", "--url", url, key=UNKNOWN_KEY)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert "key" in done.stdout
