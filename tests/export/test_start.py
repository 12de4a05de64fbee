"""Ctrl-C ends `vlaapi export` with one line and 130, whatever it is doing; the process is a real one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.export
# Stops itself at the import of a module, or when the checkpoint would be opened: the moment does not depend on the machine.
AT = """
import os, signal, sys
import export.start

class Stopping:
    def find_spec(self, name, path=None, target=None):
        if name == {moment!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Stopping())
sys.argv = ["export", "act", "--checkpoint", "tests/fixtures/act_tiny", "--name", "x", "--repository", {repository!r}]
sys.argv += ["--robot", "so100", "--kind", "joint_abs", "--control-hz", "30", "--licence", "MIT"]
export.start.main()
"""


@pytest.mark.parametrize("moment", ["export.__main__", "torch", "export.policies.act"])
def test_ctrl_c_is_one_line_also_during_imports(moment: str, tmp_path: Path) -> None:
    code = AT.format(moment=moment, repository=str(tmp_path / "models"))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (found.returncode, found.stderr, found.stdout) == (130, "stopped by Ctrl-C\n", "")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_a_bundle_is_made_leaves_nothing(tmp_path: Path) -> None:
    words = ["tabletop", "--repository", str(tmp_path / "models")]
    process = subprocess.Popen(
        [sys.executable, "-m", "export.start", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(tmp_path.glob(".tabletop.exporting/*")):  # empty: it may not be locked yet
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    said, wrong = process.communicate(timeout=120)
    assert (process.returncode, wrong, said) == (130, "stopped by Ctrl-C\n", "")
    assert not (tmp_path / ".tabletop.exporting").exists()
    assert not (tmp_path / "models" / "tabletop").exists()


def test_the_help_speaks_of_the_command_that_was_typed() -> None:
    words = [sys.executable, "-m", "export.start", "verify", "--help"]
    found = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "Usage: vlaapi export verify" in found.stdout
